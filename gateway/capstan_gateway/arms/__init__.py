"""How requests went, counted apart by what answered them: members of weighted routers, tracks of models. Pure."""

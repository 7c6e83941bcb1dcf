"use strict";
(() => {
  const form = document.getElementById("filter");
  const cases = [...document.querySelectorAll("details.case")];
  const opened = () => {
    const place = location.hash.slice(1);
    const found = cases.find((one) => one.id === place);
    if (found) {
      found.open = true;
      found.scrollIntoView();
    }
  };
  // Who has no mouse must be able to scroll what does not fit.
  const reachable = (one) => {
    for (const text of one.querySelectorAll("pre")) if (text.scrollHeight > text.clientHeight) text.tabIndex = 0;
  };
  for (const one of cases) {
    one.addEventListener("toggle", () => reachable(one));
    // The event of a case that is open from the start may have come before this.
    if (one.open) reachable(one);
  }
  addEventListener("hashchange", opened);
  opened();
  if (!form) return;

  const [search, standing, tag] = ["search", "standing", "tag"].map((id) => document.getElementById(id));
  const found = document.getElementById("found");
  const texts = new Map();
  const text = (one) => {
    if (!texts.has(one)) texts.set(one, one.textContent.toLowerCase());
    return texts.get(one);
  };
  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const one of cases) {
      const fits =
        (!standing.value || one.dataset.standing === standing.value) &&
        (!tag || !tag.value || one.dataset.tags.split(" ").includes(tag.value)) &&
        words.every((word) => text(one).includes(word));
      one.hidden = !fits;
      shown += fits;
    }
    found.textContent = shown === cases.length ? `${shown} cases` : `${shown} of ${cases.length} cases`;
  };
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(apply, 150);
  });
  for (const choice of [standing, tag]) if (choice) choice.addEventListener("change", apply);
  const turn = (open) => {
    for (const one of cases) if (!one.hidden) one.open = open;
  };
  document.getElementById("open").addEventListener("click", () => turn(true));
  document.getElementById("close").addEventListener("click", () => turn(false));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  apply();
})();

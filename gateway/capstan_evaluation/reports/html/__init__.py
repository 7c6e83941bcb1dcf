"""A run, and what it is compared with, as one page of HTML that a person reads and shows to others."""

from capstan_evaluation.reports.html.page import render_html

__all__ = ["render_html"]

// What scrolls can be reached by keyboard, also what the theme wraps later.
const scrolling = ".md-typeset__scrollwrap, .md-typeset .frame, .md-typeset pre > code";
const reach = () => document.querySelectorAll(scrolling).forEach((each) => each.setAttribute("tabindex", "0"));
new MutationObserver(reach).observe(document.body, { childList: true, subtree: true });
reach();
document.querySelector(".md-search")?.setAttribute("aria-label", "Search");

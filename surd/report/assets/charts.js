// Draws each plot when it comes into sight, in the colours of the page, and again when they change.
"use strict";

const surd = (window.surd = window.surd || {});

surd.data = (name) => {
  const found = document.getElementById(name);
  return found ? JSON.parse(found.textContent) : null;
};

surd.theme = () => {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = {
    labelColor: colour("--muted"),
    titleColor: colour("--muted"),
    gridColor: colour("--line"),
    domainColor: colour("--line-strong"),
    tickColor: colour("--line-strong"),
    labelFontSize: 11,
    titleFontSize: 11,
    titleFontWeight: "normal",
  };
  return {
    background: "transparent",
    autosize: { type: "fit", contains: "padding" }, // a spec's height is all of its plot's
    padding: { left: 0, right: 0, top: 4, bottom: 4 },
    font: style.getPropertyValue("--font").trim(),
    axis,
    legend: { labelColor: colour("--muted"), titleColor: colour("--muted"), titleFontWeight: "normal" },
    title: { color: colour("--text"), fontSize: 13, fontWeight: 600, anchor: "start" },
    header: { labelColor: colour("--muted"), titleColor: colour("--muted") },
    view: { stroke: null },
    bar: { color: colour("--accent") },
    line: { color: colour("--accent") },
    area: { color: colour("--accent") },
    point: { color: colour("--accent") },
    rect: { color: colour("--accent") },
    rule: { color: colour("--text") },
    text: { color: colour("--text") },
    range: {
      category: ["--series-1", "--series-2", "--series-3", "--series-4", "--series-5", "--series-6"].map(colour),
    },
  };
};

surd.views = new Map();

// Vega's expressions are interpreted (ast), for the page's policy forbids eval.
surd.draw = async (element) => {
  const spec = surd.data("spec-" + element.dataset.chart);
  if (!spec) return null;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const result = await vegaEmbed(element, spec, {
    actions: false,
    ast: true,
    renderer: "svg",
    config: surd.theme(),
    tooltip: { theme: dark ? "dark" : "light" },
  });
  surd.views.get(element.dataset.chart)?.finalize();
  surd.views.set(element.dataset.chart, result.view);
  element.dispatchEvent(new CustomEvent("drawn", { bubbles: true, detail: result.view }));
  return result.view;
};

(() => {
  const plots = [...document.querySelectorAll("[data-chart]")];
  const drawn = new Set();
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        watcher.unobserve(entry.target);
        drawn.add(entry.target);
        surd.draw(entry.target);
      }
    },
    { rootMargin: "400px" },
  );
  plots.forEach((plot) => watcher.observe(plot));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach(surd.draw));
  addEventListener("beforeprint", () => plots.filter((plot) => !drawn.has(plot)).forEach(surd.draw));
})();

// The entry of the section in sight is marked in the table of contents.
(() => {
  const links = new Map(
    [...document.querySelectorAll(".contents a")].map((link) => [link.getAttribute("href").slice(1), link]),
  );
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        links.forEach((link) => link.removeAttribute("aria-current"));
        const link = links.get(entry.target.id);
        link?.setAttribute("aria-current", "true");
        const bar = link?.closest(".contents"); // on a phone it scrolls sideways
        if (bar) bar.scrollLeft = link.offsetLeft - 40;
      }
    },
    { rootMargin: "-15% 0px -75% 0px" },
  );
  document.querySelectorAll("main > section").forEach((section) => watcher.observe(section));
})();

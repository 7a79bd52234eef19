// A click on a reason shows examples with their numbers, in a row below it.
"use strict";

(() => {
  const row = document.getElementById("examples");
  const examples = surd.data("data-examples");
  if (!row || !examples) return;
  const region = row.querySelector("[role=region]");
  const buttons = [...document.querySelectorAll("button.reason")];

  const marks = (sample, reason) =>
    reason
      ? (sample.reasons ?? [])
          .filter(([name]) => name === reason)
          .map((one) => surd.tag(surd.why(one) || surd.label(reason), "drop"))
      : Object.entries(sample.scores ?? {})
          .slice(0, 2)
          .map(([name, value]) => surd.tag(`${name} ${surd.number(value)}`, "keep"));

  const show = (button) => {
    const was = button.getAttribute("aria-expanded") === "true";
    buttons.forEach((one) => one.setAttribute("aria-expanded", "false"));
    row.hidden = was;
    region.replaceChildren();
    if (was) return;
    button.setAttribute("aria-expanded", "true");
    button.closest("tr").after(row);
    const reason = button.dataset.reason;
    const cards = (examples[reason] ?? []).map((index) =>
      surd.card(index, { marks: marks(surd.samples[index], reason) }),
    );
    region.append(surd.element("ul.gallery", ...cards));
    if (!cards.length) region.append(surd.element("p.note", "This page contains no examples of these."));
  };
  buttons.forEach((button) => button.addEventListener("click", () => show(button)));
})();

// Clusters of duplicates: the best first.
(() => {
  const list = document.getElementById("clusters-list");
  for (const cluster of list ? surd.data("data-clusters") : []) {
    const cards = cluster.samples.map((index) => {
      const sample = surd.samples[index];
      const mark = sample.kind
        ? surd.tag(`${sample.kind} ${surd.number(sample.similarity)}`, "drop")
        : surd.tag("best", "keep");
      return surd.card(index, { marks: [mark], prompts: false });
    });
    const more = cluster.size - cards.length;
    const count = `${surd.number(cluster.size)} samples` + (more > 0 ? `, ${cards.length} shown` : "");
    list.append(surd.element("div.cluster", surd.element("p.muted", count), surd.element("ul.gallery.small", ...cards)));
  }
})();

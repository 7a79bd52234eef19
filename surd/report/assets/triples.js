// Triples side by side, and a filter over their words.
"use strict";

(() => {
  const list = document.getElementById("triples-list");
  if (!list) return;
  const field = document.getElementById("filter");
  const count = document.getElementById("filter-count");
  const more = document.getElementById("triples-more");
  const STEP = 24;
  let limit = STEP;
  const rows = surd.data("data-triples").map((index) => {
    const sample = surd.samples[index];
    const row = surd.card(index, { prompts: false });
    const scored = (name) => (sample.scores?.[name] === undefined ? null : surd.tag(surd.number(sample.scores[name])));
    const said = (title, text, score) =>
      surd.element(
        "div.said",
        surd.element("p.muted", title, " ", scored(score)),
        text ? surd.element("p.prompt", text) : surd.element("p.muted", "none"),
      );
    row.classList.add("triple");
    row.append(
      said("simple", sample.simple, "cos_simple"),
      said("complex", sample.complex, "cos_complex"),
    );
    const words = [sample.simple, sample.complex, sample.author, sample.source, sample.licence];
    list.append(row);
    return [row, words.filter(Boolean).join("\n").toLowerCase()];
  });
  const filter = () => {
    const asked = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const [row, words] of rows) {
      const fits = asked.every((word) => words.includes(word));
      found += fits;
      row.hidden = !fits || found > limit;
    }
    more.hidden = found <= limit;
    count.textContent = asked.length ? `${found} of ${rows.length}` : "";
  };
  field.addEventListener("input", () => {
    limit = STEP;
    filter();
  });
  more.addEventListener("click", () => {
    limit += STEP;
    filter();
  });
  filter();
})();

// A slider for each score's threshold: counts over all rows, marks on the samples shown.
"use strict";

(() => {
  const scores = surd.data("data-scores");
  if (!scores) return;
  const SHOWN = 18;

  const setUp = (score) => {
    const panel = document.getElementById("panel-" + score.name);
    const slider = panel.querySelector('input[type="range"]');
    const find = (name) => panel.querySelector(name);
    const ranked = surd.samples
      .map((sample, index) => [sample.scores?.[score.name], index])
      .filter(([value]) => value !== undefined)
      .sort((a, b) => a[0] - b[0]);
    // below[i]: samples that nothing else drops, in the bins before i
    const below = [0];
    for (const count of score.open) below.push(below[below.length - 1] + count);
    const all = below[below.length - 1];

    const threshold = () => Number((score.start + slider.valueAsNumber * score.step).toFixed(4));
    const stays = (value, at) => (score.keeps_low ? value <= at : value >= at);
    const others = (sample) => (sample.reasons ?? []).filter(([name]) => name !== score.reason && !sample.keep);

    const card = ([value, index], at) => {
      const sample = surd.samples[index];
      const rest = others(sample);
      const forced = sample.keep && (sample.reasons ?? []).length > 0;
      const kind = forced ? "keep" : rest.length ? "other" : stays(value, at) ? "keep" : "drop";
      const word = forced ? "kept by hand" : rest.length ? surd.label(rest[0][0]) : kind === "keep" ? "stays" : "dropped";
      const made = surd.card(index, { marks: [surd.tag(value.toFixed(4), kind), surd.tag(word, kind)] });
      made.classList.add(kind);
      return made;
    };

    const chosen = (at) => {
      const which = find(".which").value;
      if (which === "low") return ranked.slice(0, SHOWN);
      if (which === "high") return ranked.slice(-SHOWN);
      const cut = ranked.findIndex(([value]) => (score.keeps_low ? value > at : value >= at));
      const middle = cut < 0 ? ranked.length : cut;
      const first = Math.max(0, Math.min(middle - SHOWN / 2, ranked.length - SHOWN));
      return ranked.slice(first, first + SHOWN);
    };

    const fill = () => find(".gallery").replaceChildren(...chosen(threshold()).map((one) => card(one, threshold())));
    let waiting = 0;
    const update = () => {
      const at = threshold();
      const before = below[slider.valueAsNumber];
      const stay = (score.keeps_low ? before : all - before) + score.always;
      const go = score.keeps_low ? all - before : before;
      find("output.at").textContent = at.toFixed(4);
      find(".stay").textContent = surd.number(stay);
      find(".go").textContent = surd.number(go);
      slider.setAttribute("aria-valuetext", `${at}: ${stay} stay, ${go} dropped`);
      find(".command").textContent = `surd filter DIR --set filter.${score.reason}=${at}`;
      surd.views.get("score-" + score.name.replaceAll("_", "-"))?.signal("threshold", at).runAsync();
      cancelAnimationFrame(waiting);
      waiting = requestAnimationFrame(fill);
    };
    slider.addEventListener("input", update);
    panel.addEventListener("drawn", update);
    find(".which").addEventListener("change", update);
    find(".reset").addEventListener("click", () => {
      slider.value = String(score.index);
      update();
    });
    update();
    fill(); // at once, or a link to a later section would lead beside it
  };

  scores.forEach(setUp);
  const tabs = [...document.querySelectorAll("[data-panel]")];
  const show = (name) => {
    tabs.forEach((tab) => tab.setAttribute("aria-pressed", String(tab.dataset.panel === name)));
    scores.forEach((score) => (document.getElementById("panel-" + score.name).hidden = score.name !== name));
  };
  tabs.forEach((tab) => tab.addEventListener("click", () => show(tab.dataset.panel)));
})();

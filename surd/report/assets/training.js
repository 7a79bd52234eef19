// Before and after: the buttons choose which pairs are shown.
"use strict";

for (const pairs of document.querySelectorAll(".pairs")) {
  const buttons = [...pairs.querySelectorAll("[data-show]")];
  const items = [...pairs.querySelectorAll("[data-outcome]")];
  const status = pairs.querySelector("[role=status]");

  const show = (wanted) => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.show === wanted));
    for (const item of items) {
      item.hidden = wanted === "sample" ? item.dataset.sampled !== "yes" : item.dataset.outcome !== wanted;
    }
    const shown = items.filter((item) => !item.hidden);
    const all = wanted === "sample" ? pairs.dataset.all : shown[0]?.dataset.of ?? 0;
    status.textContent = `${shown.length} of ${all} shown`;
  };

  buttons.forEach((button) => button.addEventListener("click", () => show(button.dataset.show)));
  pairs.querySelector(".controls").hidden = false;
  show("sample");
}

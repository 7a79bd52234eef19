// Keys, decisions by hand, and what is looked up after a page is there. Text goes in as text only.
"use strict";

const token = document.querySelector('meta[name="surd-token"]').content;
const gallery = document.querySelector("[data-gallery]");
const article = document.querySelector("[data-sample]");

function tell(problem) {
  const place = document.getElementById("problem");
  place.textContent = problem;
  place.hidden = !problem;
}

async function write(path, content) {
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Surd-Token": token },
      body: JSON.stringify(content),
    });
    const json = (answer.headers.get("Content-Type") || "").includes("json");
    const said = json ? await answer.json() : { problem: await answer.text() };
    tell(said.problem || "");
    return answer.ok ? said : null;
  } catch {
    tell("surd view does not answer; is it still running?");
    return null;
  }
}

function showPending(count) {
  const place = document.getElementById("pending");
  place.querySelector("b").textContent = count.toLocaleString("en");
  place.hidden = count === 0;
}

async function decide(element, decision) {
  const button = element.querySelector(`[data-decide="${decision}"]`);
  if (button.disabled) return;
  const said = await write("/decide", { id: element.dataset.id, decision });
  if (!said) return;
  const focused = element.contains(document.activeElement) && document.activeElement === button;
  for (const one of document.querySelectorAll(`[data-id="${element.dataset.id}"]`)) {
    one.dataset.state = said.state;
    one.dataset.hand = said.hand;
    const label = one.querySelector("[data-label]");
    label.textContent = label.title = said.label;
    label.className = `tag state ${said.state}`;
  }
  if (focused) element.querySelector(".picture, [data-back]").focus();
  showPending(said.pending);
  for (const place of document.querySelectorAll("[data-count]")) {
    place.textContent = said.counts[place.dataset.count].toLocaleString("en");
  }
}

// moving --------------------------------------------------------------------------------------

const samples = () => [...document.querySelectorAll("[data-gallery] > .sample")];
const current = () => document.activeElement.closest?.("[data-gallery] > .sample");

function perRow(all) {
  const next = all.findIndex((one) => one.offsetTop > all[0].offsetTop);
  return next === -1 ? all.length : next;
}

function move(by) {
  const all = samples();
  if (!all.length) return;
  const at = all.indexOf(current());
  const beyond = by > 0 ? at === all.length - 1 && "next" : at === 0 && "prev";
  const page = beyond && document.querySelector(`[rel="${beyond}"]`);
  if (page) {
    location.assign(page.href);
    return;
  }
  const to = at === -1 ? 0 : Math.max(0, Math.min(all.length - 1, at + by));
  all[to].querySelector(".picture").focus();
  all[to].scrollIntoView({ block: "nearest" });
}

// The page of the gallery one came from: where to go back to, and what comes before and after.
function remembered() {
  try {
    return JSON.parse(sessionStorage.getItem("surd-gallery")) || { ids: [] };
  } catch {
    return { ids: [] };
  }
}

function step(by) {
  const link = document.querySelector(`[data-step="${by}"]`);
  if (link && !link.hidden) location.assign(link.href);
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest("input, select, textarea");
  if (event.key === "Escape") {
    if (typing) typing.blur();
    else if (article) document.querySelector("[data-back]").click();
    return;
  }
  if (typing) return;
  if (event.key === "/") {
    const field = document.querySelector('input[name="text"]:enabled, input[name="words"]');
    if (!field) return;
    field.focus();
    field.select();
  } else if ("sdu".includes(event.key)) {
    const element = current() || article;
    if (!element) return;
    decide(element, { s: "keep", d: "drop", u: "undo" }[event.key]);
  } else if (article && !current()) {
    const steps = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1 };
    if (!(event.key in steps)) return;
    step(steps[event.key]);
  } else {
    const rows = perRow(samples().length ? samples() : [document.body]);
    const steps = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1, ArrowDown: rows, ArrowUp: -rows };
    if (!(event.key in steps)) return;
    move(steps[event.key]);
  }
  event.preventDefault();
}

// what a page has -----------------------------------------------------------------------------

if (gallery) {
  const ids = samples().map((one) => one.dataset.id);
  sessionStorage.setItem("surd-gallery", JSON.stringify({ url: location.href, ids }));
}

if (article) {
  const { url, ids } = remembered();
  if (url) document.querySelector("[data-back]").href = url;
  const at = ids.indexOf(article.dataset.id);
  for (const link of document.querySelectorAll("[data-step]")) {
    const id = at === -1 ? undefined : ids[at + Number(link.dataset.step)];
    link.hidden = !id;
    if (id) link.href = `/sample/${id}`;
  }
}

async function lookUp(place) {
  const answer = await fetch(place.dataset.like).catch(() => null);
  if (!answer || !answer.ok) {
    place.querySelector("p").textContent = "The search failed.";
    return;
  }
  place.innerHTML = await answer.text(); // our own template's, escaped there
}

for (const place of document.querySelectorAll("[data-like]")) lookUp(place);

const form = document.querySelector(".find");
form?.addEventListener("formdata", (event) => {
  for (const [name, value] of [...event.formData]) if (!value) event.formData.delete(name);
});
for (const choice of document.querySelectorAll(".find select")) {
  choice.addEventListener("change", () => choice.form.requestSubmit());
}

document.addEventListener("keydown", key);
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-decide]");
  if (button) decide(button.closest("[data-id]"), button.dataset.decide);
});
document.getElementById("apply").addEventListener("click", async (event) => {
  event.target.disabled = true;
  event.target.textContent = "Applying …";
  const said = await write("/apply", {});
  if (said) location.reload();
  event.target.disabled = false;
  event.target.textContent = "Apply";
});

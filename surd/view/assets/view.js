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

// What is told once after the page is loaded again, and the edit that it lets one undo.
function tellLater(text, edit) {
  sessionStorage.setItem("surd-said", JSON.stringify({ text, edit: edit || null }));
}

function tellNow() {
  const kept = sessionStorage.getItem("surd-said");
  sessionStorage.removeItem("surd-said");
  if (!kept) return;
  const { text, edit } = JSON.parse(kept);
  const place = document.getElementById("said");
  const button = document.getElementById("undo-edit");
  place.querySelector("span").textContent = text;
  place.hidden = false;
  button.hidden = !edit;
  button.addEventListener("click", () => edited({ action: "undo", edit }));
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
  show({ id: element.dataset.id, ...said });
  if (focused) element.querySelector(".picture, [data-back]").focus();
  showPending(said.pending);
}

// The tabs count what was found, so they change by what has changed.
function show(sample) {
  let before = null;
  for (const one of document.querySelectorAll(`[data-id="${sample.id}"]`)) {
    before ??= { ...one.dataset, edited: one.querySelector(".edited") !== null };
    one.dataset.state = sample.state;
    one.dataset.hand = sample.hand;
    const label = one.querySelector("[data-label]");
    label.textContent = label.title = sample.label;
    label.className = `tag state ${sample.state}`;
  }
  document.dispatchEvent(new CustomEvent("decided", { detail: sample }));
  if (!before) return;
  count(before.state, -1);
  count(sample.state, 1);
  if (!before.edited) count("hand", (sample.hand !== "") - (before.hand !== ""));
}

function count(name, by) {
  const place = document.querySelector(`[data-count="${name}"]`);
  if (place && by) place.textContent = (Number(place.textContent.replaceAll(",", "")) + by).toLocaleString("en");
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
    else if (selection && !selection.hidden) select("none");
    else if (article) document.querySelector("[data-back]").click();
    return;
  }
  if (typing) return;
  if (event.key === "/") {
    const field = document.querySelector('input[name="text"]:enabled, input[name="words"]');
    if (!field) return;
    field.focus();
    field.select();
  } else if (event.key === "e" && editor) {
    editor.elements.text.focus();
  } else if (event.key === "x" && selection && current()) {
    box(current()).checked = !box(current()).checked;
    pick(current(), false);
  } else if ("sdu".includes(event.key) && selection && !selection.hidden) {
    decideAll({ s: "keep", d: "drop", u: "undo" }[event.key]);
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

// editing -------------------------------------------------------------------------------------

async function edited(content) {
  const said = await write("/edit", content);
  if (!said) return;
  const n = said.changed;
  const done = content.action === "undo" ? "undone" : "edited";
  const notes = [["unchanged", "unchanged"], ["without", "without a simple prompt yet"], ["emptied", "left as they are, since no word would remain"], ["refused", "left as they are, since they would be too long or have control characters"]];
  const more = notes.filter(([name]) => said[name]).map(([name, text]) => `; ${said[name].toLocaleString("en")} ${text}`);
  tellLater(`${n.toLocaleString("en")} simple prompt${n === 1 ? "" : "s"} ${done}${more.join("")}.`, n ? said.edit : null);
  location.reload();
}

const editor = document.getElementById("edit");
if (editor) {
  const ids = [article.dataset.id];
  editor.addEventListener("submit", (event) => {
    event.preventDefault();
    edited({ ids, action: "simple", words: [editor.elements.text.value] });
  });
  editor.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) editor.requestSubmit();
  });
  for (const button of editor.querySelectorAll("[data-edit]")) {
    button.addEventListener("click", () => edited({ ids, action: button.dataset.edit }));
  }
  for (const button of document.querySelectorAll("[data-use]")) {
    const text = button.closest("tr").querySelector("[data-text]").textContent;
    button.addEventListener("click", () => edited({ ids, action: "simple", words: [text] }));
  }
}

// selecting -----------------------------------------------------------------------------------

const selection = document.getElementById("selection");
const searching = document.querySelector("[data-searching]");
let allFound = false;
let lastPicked = null;

const box = (one) => one.querySelector("[data-pick]");
const picked = () => samples().filter((one) => box(one).checked);

function showSelection() {
  if (!selection) return;
  const n = allFound ? Number(selection.dataset.total) : picked().length;
  selection.hidden = n === 0;
  document.body.classList.toggle("selecting", n > 0);
  selection.querySelector("[data-picked]").textContent = n.toLocaleString("en");
}

function pick(one, range) {
  const all = samples();
  const to = all.indexOf(one);
  const from = range && lastPicked !== null ? lastPicked : to;
  const value = from === to ? box(one).checked : true;
  for (let at = Math.min(from, to); at <= Math.max(from, to); at++) box(all[at]).checked = value;
  lastPicked = to;
  allFound = false;
  showSelection();
}

function select(what) {
  allFound = what === "found";
  for (const one of samples()) box(one).checked = what !== "none";
  showSelection();
}

const named = () => (allFound ? { found: location.search } : { ids: picked().map((one) => one.dataset.id) });

async function decideAll(decision) {
  const said = await write("/decide", { ...named(), decision });
  if (!said) return;
  if (allFound) {
    const n = said.samples.length;
    tellLater(`${n.toLocaleString("en")} sample${n === 1 ? "" : "s"} decided by hand.`);
    location.reload();
    return;
  }
  for (const one of said.samples) show(one);
  showPending(said.pending);
}

if (selection) {
  const { action, first, second } = selection.elements;
  const fit = () => {
    first.hidden = ["undo", "reset"].includes(action.value);
    second.hidden = !["replace", "replace-word", "rename-tag"].includes(action.value);
  };
  action.addEventListener("change", fit);
  fit();
  selection.addEventListener("submit", (event) => {
    event.preventDefault();
    const words = [first, second].filter((field) => !field.hidden).map((field) => field.value);
    edited({ ...named(), action: action.value, words });
  });
  for (const button of selection.querySelectorAll("[data-all]")) {
    button.addEventListener("click", () => decideAll(button.dataset.all));
  }
  for (const button of document.querySelectorAll("[data-select]")) {
    button.addEventListener("click", () => select(button.dataset.select));
  }
  document.querySelector("main").addEventListener("click", (event) => {
    const one = event.target.closest("[data-gallery] > .sample");
    if (!one) return;
    if (event.target.matches("[data-pick]")) {
      pick(one, event.shiftKey);
    } else if (event.shiftKey && event.target.closest(".picture")) {
      event.preventDefault();
      box(one).checked = true;
      pick(one, true);
    }
  });
  showSelection(); // a browser may keep what was checked when one comes back
  if (location.hash === "#selected" && !searching) {
    history.replaceState(null, "", location.pathname + location.search);
    if (Number(selection.dataset.total)) select("found");
  }
}

// searching on ---------------------------------------------------------------------------------

let touched = false;
for (const what of ["keydown", "pointerdown", "scroll"]) {
  addEventListener(what, () => (touched = true), { once: true, capture: true, passive: true });
}

// Whether nothing is lost if the page is loaded again.
function untouched() {
  const told = ["said", "problem"].some((id) => !document.getElementById(id).hidden);
  return !touched && !told && scrollY === 0 && document.activeElement === document.body && (!selection || selection.hidden);
}

const inSight = () => document.hidden && new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));

// The page is loaded again when it would show more, unless somebody is at work on it. Screen readers
// are told the end alone.
async function searchOn(place) {
  const { hasRoom } = place.dataset;
  const [ending, link] = [place.nextElementSibling, place.nextElementSibling.nextElementSibling];
  const end = (text) => {
    place.textContent = "";
    ending.textContent = text;
  };
  while (true) {
    await inSight();
    const answer = await fetch(`/search${location.search}`).catch(() => null);
    const { searched, found, problem } = (await answer?.json().catch(() => null)) || {};
    if (!answer?.ok) {
      if (problem) tell(problem);
      end("The search has stopped.");
      return;
    }
    const done = searched === 1;
    if (untouched() && (done || found > Number(hasRoom))) {
      location.reload();
      return;
    }
    const n = found.toLocaleString("en");
    if (done) {
      end(`${n} found.`);
      link.textContent = "Show them";
      return;
    }
    place.textContent = `${n} found so far, in ${Math.floor(100 * searched)}% of the samples.`;
  }
}

if (searching) {
  searchOn(searching);
  if (location.hash) {
    // With it, the link would only be looked for on this page.
    searching.parentElement.querySelector("a").addEventListener("click", (event) => {
      event.preventDefault();
      location.reload();
    });
  }
}

const size = document.getElementById("size");
if (size) {
  const apply = () => document.documentElement.style.setProperty("--card", `${size.value}rem`);
  size.value = localStorage.getItem("surd-size") || size.value;
  apply();
  size.addEventListener("input", () => {
    apply();
    localStorage.setItem("surd-size", size.value);
  });
}

const folds = document.querySelector("[data-folds]");
if (folds && !("used" in folds.dataset) && matchMedia("(max-width: 860px)").matches) folds.open = false;

tellNow();
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

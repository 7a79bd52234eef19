// Cards of samples. Whatever strangers wrote goes in by textContent, never as markup.
"use strict";

surd.samples = surd.data("data-samples") ?? [];

// element("p.note", "text", child, ...)
surd.element = (what, ...inside) => {
  const [tag, ...classes] = what.split(".");
  const made = document.createElement(tag);
  if (classes.length) made.className = classes.join(" ");
  made.append(...inside.filter((one) => one !== null && one !== undefined));
  return made;
};

surd.number = (value) => {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  return Math.abs(value) >= 1000
    ? Math.round(value).toLocaleString("en-US")
    : String(Number(value.toPrecision(4)));
};

// The name of a reason in words.
surd.labels = surd.data("data-labels") ?? {};
surd.label = (name) => surd.labels[name] ?? name;

// A reason as [name, value, threshold, detail]; why: what it says beside its name.
surd.why = ([name, value, threshold, detail]) => {
  const limit = value !== null && threshold !== null;
  const numbers = value === null ? "" : surd.number(value);
  const relation = limit ? `${value < threshold ? " < " : " > "}${surd.number(threshold)}` : "";
  return [numbers + relation, detail].filter(Boolean).join(", ");
};

surd.reason = (reason) => {
  const why = surd.why(reason);
  return `${surd.label(reason[0])} (${reason[0]}${why ? ": " + why : ""})`;
};

surd.picture = (sample) => {
  if (!sample.thumb) {
    const why = sample.image && sample.image !== "ok" ? sample.image : "no picture";
    return surd.element("div.picture", surd.element("span", why));
  }
  const image = surd.element("img");
  image.loading = "lazy";
  image.decoding = "async";
  image.alt = sample.simple ?? sample.complex ?? "a picture without a prompt";
  image.src = sample.thumb;
  return surd.element("div.picture" + (sample.unfit ? ".unfit" : ""), image);
};

surd.tags = (sample, marks) => {
  const verdict = surd.element("div.tags", ...(marks ?? []));
  return verdict.childNodes.length ? verdict : null;
};

// A card: the picture opens everything that is known of the sample.
surd.card = (index, { marks, prompts = true, figure } = {}) => {
  const sample = surd.samples[index];
  const open = surd.element("button.open", figure ?? surd.picture(sample));
  open.type = "button";
  open.setAttribute("aria-label", `Details of ${sample.simple ?? sample.complex ?? sample.id}`);
  open.addEventListener("click", () => surd.details(index));
  const texts = prompts
    ? [
        sample.simple ? surd.element("p.prompt.simple", sample.simple) : null,
        sample.complex ? surd.element("p.prompt.complex", sample.complex) : null,
      ]
    : [];
  return surd.element("li.sample", open, surd.tags(sample, marks), ...texts);
};

surd.tag = (text, kind) => surd.element("span.tag" + (kind ? "." + kind : ""), text);

surd.facts = (sample) => {
  const size = sample.width ? `${surd.number(sample.width)} × ${surd.number(sample.height)} pixels` : null;
  const scores = Object.entries(sample.scores ?? {}).map(([name, value]) => [name, surd.number(value)]);
  const verdict = sample.keep === undefined ? null : sample.keep ? "kept" : "dropped";
  const http = sample.http && sample.image !== "ok" ? `, HTTP ${sample.http}` : "";
  return [
    ["simple prompt", sample.simple],
    ["complex prompt", sample.complex],
    ["dense caption", sample.dense],
    ["tags", sample.tags],
    ["verdict", verdict],
    ["reasons", (sample.reasons ?? []).map(surd.reason).join("; ")],
    ...scores,
    ["image", (sample.image ?? "") + http],
    ["size", size],
    ["duplicate", sample.kind ? `${sample.kind}, similarity ${surd.number(sample.similarity)}` : null],
    ["source", sample.source],
    ["author", sample.author],
    ["licence", sample.licence],
    ["model", sample.model],
    ["NSFW level", sample.nsfw_level],
    ["id", sample.id],
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
};

surd.details = (index) => {
  const sample = surd.samples[index];
  const list = surd.element("dl.details");
  for (const [name, value] of surd.facts(sample)) {
    list.append(surd.element("dt", name), surd.element("dd.prompt", value));
  }
  if (sample.link) {
    const link = surd.element("a", sample.link);
    link.href = sample.link; // http or https only, seen to when the page was written
    link.rel = "noopener noreferrer nofollow";
    link.target = "_blank";
    list.append(surd.element("dt", "page"), surd.element("dd.prompt", link));
  }
  const close = surd.element("button.close", "Close");
  close.type = "button";
  const dialog = surd.element("dialog.sheet", surd.picture(sample), list, close);
  dialog.setAttribute("aria-label", "Details of a sample");
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
};

// The map: a point an image, a line drawn around some of them, and a box for the keyboard.
"use strict";

(() => {
  const canvas = document.getElementById("map");
  const card = document.getElementById("map-card");
  const context = canvas.getContext("2d");
  const SCALE = 9999, MOST_CORNERS = 60, NEAR_PX = 14, TAP_PX = 6;
  let points = { total: 0, ids: [], x: [], y: [], states: [] };
  let frame = { left: 0, top: 0, width: SCALE, height: SCALE }; // of the map, what is shown
  let line = [];
  let box = null; // in pixels, as the line
  let shown = "";

  const size = () => ({ width: canvas.clientWidth, height: canvas.clientHeight });
  const toPixels = (at) => [
    ((points.x[at] - frame.left) / frame.width) * size().width,
    ((points.y[at] - frame.top) / frame.height) * size().height,
  ];
  const toMap = ([x, y]) => [
    Math.round(frame.left + (x / size().width) * frame.width),
    Math.round(frame.top + (y / size().height) * frame.height),
  ].map((value) => Math.max(0, Math.min(SCALE, value)));

  // What is found elsewhere on the map leaves its frame to what is asked for.
  const fit = () => {
    const span = (values) => {
      const low = values.reduce((a, b) => Math.min(a, b), SCALE);
      const high = values.reduce((a, b) => Math.max(a, b), 0);
      const edge = Math.max(1, (high - low) * 0.04);
      return [low - edge, Math.max(1, high - low + 2 * edge)];
    };
    const [left, width] = span(points.x), [top, height] = span(points.y);
    frame = { left, width, top, height };
  };

  const draw = () => {
    const { width, height } = size();
    const dots = devicePixelRatio || 1;
    canvas.width = width * dots;
    canvas.height = height * dots;
    context.scale(dots, dots);
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const colours = { kept: colour("--keep"), dropped: colour("--drop"), unjudged: colour("--muted") };
    const radius = points.ids.length > 5000 ? 1.5 : points.ids.length > 1000 ? 2.5 : 4;
    context.globalAlpha = 0.75;
    context.lineWidth = radius * 0.6;
    points.ids.forEach((id, at) => {
      const [x, y] = toPixels(at);
      const state = points.states[at]; // dropped ones are rings, for who cannot tell the colours
      context.fillStyle = context.strokeStyle = colours[state];
      context.beginPath();
      context.arc(x, y, id === shown ? radius + 4 : radius, 0, 7);
      state === "dropped" ? context.stroke() : context.fill();
    });
    context.globalAlpha = 1;
    const corners = box && document.activeElement === canvas ? cornersOf(box) : line;
    if (corners.length < 2) return;
    context.strokeStyle = colour("--accent");
    context.fillStyle = colour("--accent-soft");
    context.lineWidth = 2;
    context.beginPath();
    corners.forEach(([x, y]) => context.lineTo(x, y));
    context.closePath();
    context.globalAlpha = 0.35;
    context.fill();
    context.globalAlpha = 1;
    context.stroke();
  };

  const nearest = ([x, y], within) => {
    let best = -1, least = within ** 2;
    points.ids.forEach((_, at) => {
      const [px, py] = toPixels(at);
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < least) [best, least] = [at, distance];
    });
    return best;
  };

  const showCard = async (at) => {
    if (at < 0 || points.ids[at] === shown) return;
    shown = points.ids[at];
    draw();
    const asked = shown;
    const answer = await fetch(`/card/${asked}`).catch(() => null);
    if (answer?.ok && asked === shown) card.innerHTML = await answer.text(); // our own template's
  };

  // The gallery shows what was drawn around, selected.
  const select = (corners) => {
    const step = Math.ceil(corners.length / MOST_CORNERS);
    const lasso = corners.filter((_, at) => at % step === 0).flatMap(toMap).join(".");
    const url = new URL(canvas.dataset.galleryUrl, location.href);
    url.searchParams.set("lasso", lasso);
    url.hash = "selected";
    location.assign(url);
  };

  const place = (event) => {
    const at = canvas.getBoundingClientRect();
    return [event.clientX - at.left, event.clientY - at.top];
  };
  let waiting = 0;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    box = null;
    line = [place(event)];
  });
  canvas.addEventListener("pointermove", (event) => {
    const here = place(event);
    if (line.length) {
      const [x, y] = line[line.length - 1];
      if (Math.hypot(here[0] - x, here[1] - y) >= TAP_PX) line.push(here);
      draw();
      return;
    }
    clearTimeout(waiting);
    waiting = setTimeout(() => showCard(nearest(here, NEAR_PX)), 60);
  });
  canvas.addEventListener("pointerup", (event) => {
    const drawn = line;
    line = [];
    if (drawn.length > 2) select(drawn);
    else showCard(nearest(place(event), 2 * NEAR_PX));
    draw();
  });
  canvas.addEventListener("pointercancel", () => {
    line = [];
    draw();
  });

  const cornersOf = ({ x, y, width, height }) => [[x, y], [x + width, y], [x + width, y + height], [x, y + height]];
  canvas.addEventListener("keydown", (event) => {
    const { width, height } = size();
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter" && box) {
      select(cornersOf(box));
    } else if (event.key in moves) {
      box ??= { x: width * 0.35, y: height * 0.35, width: width * 0.3, height: height * 0.3 };
      const [right, down] = moves[event.key].map((one, at) => one * 0.03 * [width, height][at]);
      if (event.shiftKey) {
        box.width = Math.max(10, Math.min(width - box.x, box.width + right));
        box.height = Math.max(10, Math.min(height - box.y, box.height + down));
      } else {
        box.x = Math.max(0, Math.min(width - box.width, box.x + right));
        box.y = Math.max(0, Math.min(height - box.height, box.y + down));
      }
      draw();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  });
  for (const change of ["focus", "blur"]) canvas.addEventListener(change, draw);
  new ResizeObserver(draw).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  document.addEventListener("decided", ({ detail }) => {
    const at = points.ids.indexOf(detail.id);
    if (at !== -1) points.states[at] = detail.state;
    draw();
  });

  const count = document.getElementById("map-count");
  count.textContent = "Computing the map …";
  fetch(canvas.dataset.points)
    .then((answer) => answer.json())
    .then((found) => {
      if (found.problem) throw new Error(found.problem);
      points = found;
      const all = found.total.toLocaleString("en"), some = found.ids.length.toLocaleString("en");
      count.textContent = found.ids.length < found.total ? `${some} of ${all} images, chosen by chance` : `${all} images`;
      canvas.setAttribute("aria-label", `Map of ${all} images`);
      if (found.total) fit();
      for (const entry of document.querySelectorAll("[data-of]")) entry.hidden = !found.states.includes(entry.dataset.of);
      draw();
    })
    .catch((error) => {
      count.textContent = "";
      tell(error.message);
    });
})();

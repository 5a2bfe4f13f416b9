// Draws the view. Texts of other modules become text nodes only, never markup.

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...children.filter((each) => each !== null && each !== undefined));
  return made;
}

const quiet = (text) => element("p", { class: "quiet" }, text);
const number = (value) => value.toLocaleString("en");
const percent = (share) => (share === null ? "–" : `${(share * 100).toFixed(share > 0.999 ? 0 : 1)} %`);
const ms = (value) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3).slice(0, 4));
const one = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

export function ago(seconds) {
  if (seconds < 2) return "now";
  if (seconds < 120) return `${Math.round(seconds)} s ago`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min ago`;
  return `${Math.round(seconds / 3600)} h ago`;
}

function bar(start, share, describe) {
  const span = element("span");
  span.style.left = `${start * 100}%`; // the style object is not inline style: the policy allows it
  span.style.width = `${share * 100}%`;
  return element("div", { class: "track", "aria-hidden": "true", title: describe }, span);
}

function figures(pairs) {
  const list = element("dl", { class: "figures" });
  for (const [name, value] of pairs) {
    list.append(element("div", {}, element("dt", {}, name), element("dd", {}, value)));
  }
  return list;
}

function line(values, describe) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const width = Math.max(1, values.length - 1);
  const top = Math.max(1e-9, ...values);
  svg.setAttribute("class", "line");
  svg.setAttribute("viewBox", `0 0 ${width} 20`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", describe);
  const points = document.createElementNS(space, "polyline");
  points.setAttribute("points", values.map((each, at) => `${at},${19 - (each / top) * 18}`).join(" "));
  svg.append(points);
  return svg;
}

function table(kind, caption, head, rows, foot) {
  const cells = (tag, row) =>
    element("tr", {}, ...row.map((each, at) =>
      each !== "" && (tag === "th" || at === 0)
        ? element("th", { scope: tag === "th" ? "col" : "row" }, each)
        : element("td", {}, each)));
  const made = element("table", { class: kind }, element("caption", {}, caption));
  made.append(element("thead", {}, cells("th", head)));
  made.append(element("tbody", {}, ...rows.map((row) => cells("td", row))));
  if (foot) made.append(element("tfoot", {}, cells("td", foot)));
  return made;
}

function notes(view) {
  return view.notes.map((note) =>
    element("div", { class: `note ${note.level}` }, element("strong", {}, note.text), note.cure));
}

function summary(answer) {
  if (answer.label !== null) return answer.label;
  if (!answer.detections.length) return "nothing found";
  const counts = new Map();
  for (const each of answer.detections) counts.set(each.label, (counts.get(each.label) ?? 0) + 1);
  return [...counts].map(([label, count]) => (count > 1 ? `${count} × ${label}` : label)).join(", ");
}

function judgement(answer) {
  if (answer.wrong) return element("span", { class: "wrong" }, `✗ wrong: it is ${answer.truth}`);
  if (answer.uncertain) return element("span", { class: "unsure" }, "? uncertain");
  if (answer.wrong === false) return element("span", { class: "right" }, "✓ right");
  return null;
}

// A loaded picture is moved, not loaded again: parts are made with empty pictures, which `adopt` replaces.
const thumbs = new Map(); // by frame
let shot = null; // one element: the frame before stays visible until the next one is loaded

function adopt(made) {
  const address = `/picture/${made.dataset.frame}`;
  if (made.className === "thumb") {
    const kept = thumbs.get(made.dataset.frame);
    if (kept) made.replaceWith(kept);
    else {
      made.setAttribute("src", address);
      thumbs.set(made.dataset.frame, made);
    }
    return;
  }
  if (shot) {
    shot.setAttribute("alt", made.getAttribute("alt"));
    made.replaceWith(shot);
  } else {
    shot = made;
    shot.addEventListener("load", () => shot.classList.toggle("small", shot.naturalWidth < 100));
  }
  if (shot.getAttribute("src") !== address) shot.setAttribute("src", address);
}

function boxes(detections) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const attributes = { class: "boxes", viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" };
  for (const [key, value] of Object.entries(attributes)) svg.setAttribute(key, value);
  const names = detections.map((each) => {
    const rect = document.createElementNS(space, "rect");
    const { l, t, w, h } = each.box;
    for (const [key, value] of Object.entries({ x: l, y: t, width: w, height: h })) rect.setAttribute(key, value);
    svg.append(rect);
    const name = element("span", { class: "box-name" }, `${each.label} ${percent(each.confidence)}`);
    name.style.left = `${l * 100}%`;
    name.style.top = `${t * 100}%`;
    return name;
  });
  return [svg, ...names];
}

function frame(view) {
  const found = view.frame;
  const failure = view.preview_failure ? quiet(`The camera sends no pictures: ${view.preview_failure}`) : null;
  if (!found) return [failure ?? quiet("No picture yet. The camera sends small ones while this page is open.")];
  const answer = found.answer;
  const alt = answer ? `Latest frame: ${summary(answer)}` : "Latest frame, without an answer";
  const score = answer && answer.confidence !== null ? ` ${percent(answer.confidence)}` : "";
  return [
    element("div", { class: "shot" },
      element("img", { class: "picture", "data-frame": found.key, alt }), ...(answer ? boxes(answer.detections) : [])),
    element("p", { class: "said" }, answer ? element("b", {}, summary(answer)) : "No answer to this frame was sent.", score),
    element("p", {}, answer && judgement(answer)),
    found.age_s >= 5 ? quiet(`This picture came ${ago(found.age_s)}.`) : null,
    failure,
  ];
}

function last(view) {
  const answer = view.recent[0];
  if (!answer) return [quiet("None yet.")];
  const scored = answer.detections.length ? answer.detections.slice(0, 8) : answer.top;
  const rows = scored.map((each) => [each.label, bar(0, each.confidence, each.label), percent(each.confidence)]);
  return [
    element("p", { class: "label" }, summary(answer)),
    element("p", {}, judgement(answer)),
    rows.length ? table("", "Confidence", ["label", "", "confidence"], rows) : null,
    quiet(`Frame ${number(answer.seq)} of ${answer.camera}, by ${answer.model}, ${ago(answer.age_s)}`),
  ];
}

/* Why inference does not send an answer. */
const NOT_SENT = { off: "not wanted", unchanged: "unchanged", certain: "certain", budget: "over the budget" };

function rate(view) {
  const window = view.window;
  const pairs = [["answers / s", view.rate.now.toFixed(1)], ["answers", number(view.answers)]];
  if (window && window.per_second !== null) {
    pairs.push(["frames / s", window.per_second.toFixed(1)], ["frames so far", number(window.finished)]);
    const reasons = Object.entries(window.suppressed_by).filter(([, count]) => count);
    for (const [reason, count] of reasons) pairs.push([`not sent: ${NOT_SENT[reason] ?? reason}`, number(count)]);
  }
  const drops = Object.entries(window?.dropped ?? {}).filter(([, count]) => count);
  const series = view.rate.series;
  return [
    figures(pairs),
    series.length > 1 ? line(series, `Answers in each of the last ${series.length} seconds`) : null,
    window === null ? quiet("Frames and drops come with inference's first latency message.") : null,
    drops.length
      ? table("", "Dropped since inference started", ["reason", "frames"],
          drops.map(([reason, count]) => [reason.replaceAll("_", " "), number(count)]))
      : window && quiet("Dropped: none."),
  ];
}

function stages(view) {
  const found = view.stages;
  if (!found) return [quiet("No frame yet.")];
  const end = Math.max(1e-9, ...found.rows.map((row) => row.start + row.p50));
  const rows = found.rows.map((row) =>
    [row.name, bar(row.start / end, row.p50 / end, `${row.name}: ${ms(row.p50)} ms`), ms(row.p50), ms(row.p99)]);
  const total = found.total && ["total", "", ms(found.total.p50), ms(found.total.p99)];
  const caption = found.of === "window"
    ? `The ${one(found.frames, "frame")} of inference's last window; bars are medians, one after the other`
    : `The last ${one(found.frames, "answer")}; inference's own figures follow`;
  const made = table("stages", caption, ["stage", "", "p50 ms", "p99 ms"], rows, total);
  made.querySelectorAll("tr > :nth-child(2)").forEach((cell) => cell.classList.add("bar"));
  const totals = view.totals;
  return [
    element("div", { class: "scroll" }, made),
    totals.length > 1 ? line(totals, `Median total of the last ${totals.length} windows, now ${ms(totals.at(-1))} ms`) : null,
  ];
}

function recent(view) {
  const keys = new Set(view.recent.map((answer) => answer.key));
  for (const key of thumbs.keys()) if (!keys.has(key)) thumbs.delete(key);
  return view.recent.map((answer) =>
    element("li", { class: answer.wrong ? "is-wrong" : answer.uncertain ? "is-unsure" : null },
      answer.pictured ? element("img", { class: "thumb", "data-frame": answer.key, alt: "" }) : null,
      element("b", {}, summary(answer)),
      element("div", {}, answer.confidence === null ? one(answer.detections.length, "object") : percent(answer.confidence)),
      judgement(answer)));
}

function models(view) {
  if (!view.models.length) return [element("li", {}, quiet("No answer yet names a model."))];
  return view.models.map((model, at) =>
    element("li", {},
      element("b", {}, `${model.name}:${model.version}`),
      at === 0 ? " in use" : "",
      model.again ? " (again)" : "",
      quiet(`since ${ago(model.age_s)} · ${one(model.frames, "answer")} · sha256 ${model.sha256.slice(0, 12)}`)));
}

function matrix(found) {
  const rows = found.labels.map((truth, at) => [truth, ...found.matrix[at].map((count) => (count ? number(count) : "·"))]);
  const made = table("matrix", "Rows: what it is. Columns: what the model says.", ["", ...found.labels], rows);
  made.querySelectorAll("tbody tr").forEach((row, truth) =>
    row.querySelectorAll("td").forEach((cell, label) => {
      if (found.matrix[truth][label]) cell.classList.add(truth === label ? "hit" : "miss");
    }));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Confusion matrix" }, made);
}

function accuracy(view) {
  const found = view.accuracy;
  if (!found) return [quiet("No message says what a frame shows. Only a simulated camera knows; inference never reads it.")];
  const classes = found.classes.map((each) =>
    [each.label, number(each.frames), percent(each.precision), percent(each.recall)]);
  return [
    figures([["right", percent(found.right / found.of)], ["of", one(found.of, "frame")]]),
    found.matrix && matrix(found),
    table("", "Of the model in use", ["label", "frames", "precision", "recall"], classes),
  ];
}

function timeline(view) {
  if (!view.timeline.length) return [element("li", {}, quiet("Inference's output events has not been heard of yet."))];
  return view.timeline.map((change) =>
    element("li", { class: `is-${change.level}` },
      element("b", {}, change.model || "Model"),
      ` ${change.words}`,
      change.reason ? element("span", { class: "reason" }, change.reason) : null,
      quiet(`${new Date(change.at_ms).toLocaleTimeString("en-GB")}${change.sha256 && ` · sha256 ${change.sha256.slice(0, 12)}`}`)));
}

function modules(view) {
  const list = element("ul", { class: "modules" });
  for (const each of view.modules) {
    list.append(element("li", { class: `is-${each.level}` },
      element("b", {}, each.name), ` ${each.words}`, each.more ? quiet(each.more) : null));
  }
  return [list];
}

function drift(view) {
  const found = view.drift;
  if (!found) return [];
  const pairs = ["detector", "measure", "value"].filter((name) => found[name] !== null);
  return [
    element("p", { class: found.state === "drift" ? "unsure" : "right" },
      found.state === "drift" ? "? the pictures or answers have drifted" : "✓ none found"),
    figures(pairs.map((name) => [name, String(found[name])])),
    found.since === null ? null : quiet(`since ${found.since}`),
  ];
}

const PARTS = { notes, frame, last, rate, modules, stages, timeline, models, accuracy, drift, recent };
const drawn = new Map();

// Replaces a part only if its content differs: a screen reader keeps its place, and notes are read once.
export function draw(view) {
  document.getElementById("notes-section").hidden = !view.notes.length;
  document.getElementById("drift-section").hidden = !view.drift;
  document.getElementById("control-section").hidden = !view.control;
  for (const [name, make] of Object.entries(PARTS)) {
    const children = make(view).filter((each) => each !== null && each !== undefined && each !== false);
    const content = children.map((each) => each.outerHTML).join("");
    if (drawn.get(name) === content) continue;
    drawn.set(name, content);
    const place = document.getElementById(name);
    const scrolled = place.querySelector(".scroll")?.scrollLeft;
    const focused = place.contains(document.activeElement);
    place.replaceChildren(...children);
    place.querySelectorAll("img[data-frame]").forEach(adopt);
    if (scrolled) place.querySelector(".scroll").scrollLeft = scrolled;
    if (focused) place.querySelector("[tabindex]")?.focus();
  }
}

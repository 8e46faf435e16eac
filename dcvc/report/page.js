"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const COLOURS = ["#d1495b", "#2e86de", "#2a9d5c", "#e08e0b", "#8e5bd0", "#16a5a5", "#8a6d3b", "#d65fae"];
const codecs = Object.keys(data.codecs);
const colour = name => COLOURS[codecs.indexOf(name) % COLOURS.length];
const label = p => `${p.codec} ${p.setting}`;
const keyOf = p => `${p.codec}|${p.setting}`;

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
function shape(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
function fill(select, entries) {
  select.replaceChildren(...entries.map(([value, text]) => element("option", text, { value })));
}
function number(value, digits) {
  return value === null || value === undefined ? "–" : value.toFixed(digits);
}
function ticks(low, high, about) {
  const rough = (high - low) / about || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= rough);
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step / 1e6; v += step) found.push(v);
  return [found, Math.max(0, -Math.floor(Math.log10(step)))];
}
/* 1, 2 and 5 of every power of ten between two rates. */
function decades(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
    for (const m of [1, 2, 5]) if (m * 10 ** power >= low && m * 10 ** power <= high) found.push(m * 10 ** power);
  return found;
}
function legend(where, entries) {
  where.replaceChildren(...entries.map(([name, shade]) => {
    const item = element("span"), mark = element("i");
    mark.style.background = shade;
    item.append(mark, name);
    return item;
  }));
}

/* A table whose columns sort: {name, text?, digits?, get}. */
function table(where, columns, rows) {
  const head = element("thead"), body = element("tbody"), line = element("tr");
  const draw = sorted => body.replaceChildren(...sorted.map(row => {
    const tr = element("tr");
    for (const c of columns) {
      const value = c.get(row);
      tr.append(element("td", c.text ? value : number(value, c.digits), c.text ? { class: c.text } : {}));
    }
    return tr;
  }));
  columns.forEach(c => {
    const th = element("th", undefined, { scope: "col", "aria-sort": "none", ...(c.text ? { class: "text" } : {}) });
    const button = element("button", c.name, { type: "button" });
    button.addEventListener("click", () => {
      const down = th.getAttribute("aria-sort") === "ascending";
      line.querySelectorAll("th").forEach(other => other.setAttribute("aria-sort", "none"));
      th.setAttribute("aria-sort", down ? "descending" : "ascending");
      const missing = v => v === null || v === undefined;
      draw([...rows].sort((a, b) => {
        const [x, y] = [c.get(a), c.get(b)];
        if (missing(x) || missing(y)) return missing(x) - missing(y);
        const order = c.text ? String(x).localeCompare(String(y), "en", { numeric: true }) : x - y;
        return down ? -order : order;
      }));
    });
    th.append(button);
    line.append(th);
  });
  head.append(line);
  where.replaceChildren(head, body);
  draw(rows);
}

const plotWidth = () => Math.max(340, Math.min(1000, $("curves").clientWidth || 760));

function drawCurves() {
  const metric = $("metric").value, sequence = $("curve-sequence").value;
  const lines = codecs.map(codec => [codec, data.points.filter(p => p.codec === codec).map(p => {
    const row = sequence ? p.sequences.find(s => s.name === sequence) : p.mean;
    return row && row[metric] !== undefined ? [row.bpp, row[metric], label(p), p.rates] : null;
  }).filter(Boolean).sort((a, b) => a[0] - b[0])]).filter(([, points]) => points.length);
  const all = lines.flatMap(([, points]) => points);
  if (!all.length) { $("curves").replaceChildren(element("p", "not measured")); return; }
  const W = plotWidth(), H = Math.min(460, Math.max(300, W * 0.5)), left = 64, right = 16, top = 12, bottom = 44;
  const log = $("rate-axis").value === "log", rates = all.map(p => p[0]);
  const [first, last] = log ? [Math.min(...rates) / 1.15, Math.max(...rates) * 1.15] : [0, Math.max(...rates) * 1.05];
  const along = v => log ? Math.log(v / first) / Math.log(last / first) : v / last;
  let [low, high] = [Math.min(...all.map(p => p[1])), Math.max(...all.map(p => p[1]))];
  const margin = (high - low) * 0.06 || 0.5;
  low -= margin; high += margin;
  const X = v => left + along(v) * (W - left - right), Y = v => top + (high - v) / (high - low) * (H - top - bottom);
  const svg = shape("svg", { viewBox: `0 0 ${W} ${H}`, role: "img",
    "aria-label": `${data.metrics[metric]} over bits per pixel; the numbers are in the table Every sequence` });
  const [xs, xDigits] = log ? [decades(first, last), null] : ticks(0, last, W / 110), [ys, yDigits] = ticks(low, high, 7);
  for (const v of xs) svg.append(shape("line", { x1: X(v), x2: X(v), y1: top, y2: H - bottom, class: "grid" }),
    shape("text", { x: X(v), y: H - bottom + 18, "text-anchor": "middle" }, log ? String(+v.toPrecision(2)) : v.toFixed(xDigits)));
  for (const v of ys) svg.append(shape("line", { x1: left, x2: W - right, y1: Y(v), y2: Y(v), class: "grid" }),
    shape("text", { x: left - 8, y: Y(v) + 4, "text-anchor": "end" }, v.toFixed(yDigits)));
  svg.append(shape("text", { x: (left + W - right) / 2, y: H - 6, "text-anchor": "middle" }, "bits per pixel"),
    shape("text", { x: 14, y: (top + H - bottom) / 2, "text-anchor": "middle",
      transform: `rotate(-90 14 ${(top + H - bottom) / 2})` }, data.metrics[metric]));
  for (const [codec, points] of lines) {
    svg.append(shape("polyline", { points: points.map(p => `${X(p[0])},${Y(p[1])}`).join(" "), fill: "none",
      stroke: colour(codec), "stroke-width": data.codecs[codec] === "anchor" ? 2 : 3.5 }));
    for (const p of points) {
      const dot = shape("circle", { cx: X(p[0]), cy: Y(p[1]), r: 4.5, fill: p[3] === "estimate" ? "none" : colour(codec),
        stroke: colour(codec), "stroke-width": 2 });
      dot.append(shape("title", {}, `${p[2]}: ${p[0].toFixed(4)} bpp, ${p[1].toFixed(3)} (${p[3]})`));
      svg.append(dot);
    }
  }
  $("curves").replaceChildren(svg);
  legend($("legend"), lines.map(([codec]) => [codec, colour(codec)]));
}

/* Left and right choose "original" or a codec; anchors show the point whose rate is nearest to ours. */
const rowOf = (point, sequence) => point.sequences.find(s => s.name === sequence);
function candidates(sequence) {
  return data.points.filter(p => data.pictures[`${keyOf(p)}|${sequence}`] && rowOf(p, sequence));
}
function nearestTo(bpp, codec, sequence) {
  return candidates(sequence).filter(p => p.codec === codec).sort((a, b) =>
    Math.abs(Math.log(rowOf(a, sequence).bpp / bpp)) - Math.abs(Math.log(rowOf(b, sequence).bpp / bpp)))[0];
}
function chooseFrames() {
  const sequence = $("frame-sequence").value, found = candidates(sequence);
  const options = [["original", "original"], ...found.map(p => [keyOf(p), label(p)])];
  fill($("left"), options);
  fill($("right"), options);
  const ours = found.filter(p => data.codecs[p.codec] === "neural" || data.codecs[p.codec] === "intra");
  const pool = ours.length ? ours : found.filter(p => p.codec === found[0].codec);
  const mine = pool[Math.floor(pool.length / 2)];
  if (!mine) { $("nearest").textContent = "No frames were kept for this sequence."; drawFrames(); return; }
  const bpp = rowOf(mine, sequence).bpp;
  const near = [...new Set(found.map(p => p.codec))].filter(c => c !== mine.codec)
    .map(c => nearestTo(bpp, c, sequence));
  const other = near.find(p => data.codecs[p.codec] === "anchor");
  $("left").value = keyOf(mine);
  $("right").value = other ? keyOf(other) : "original";
  $("nearest").textContent = near.length ? `Nearest in rate to ${label(mine)} (${bpp.toFixed(4)} bpp): ` +
    near.map(p => `${label(p)} (${rowOf(p, sequence).bpp.toFixed(4)} bpp)`).join(", ") : "";
  drawFrames();
}
function drawFrames() {
  const sequence = $("frame-sequence").value, heat = $("show").value === "heat";
  $("stage").classList.toggle("heat", heat);
  $("scale").hidden = !heat;
  for (const side of ["left", "right"]) {
    const key = $(side).value, entry = data.pictures[`${key}|${sequence}`] || {};
    const image = $(`image-${side}`);
    image.src = (heat && entry.heat) || entry.image || "data:,";
    image.onload = () => $("stage").classList.toggle("small", image.naturalWidth * 2 <= image.clientWidth);
    const point = data.points.find(p => keyOf(p) === key), row = point && rowOf(point, sequence);
    const t = row && row.shown, frame = row && row.type[t] !== undefined ?
      ` (this ${row.type[t]}-frame: ${row.frame_bits[t]} bits, ${row.frame_psnr[t].toFixed(2)} dB)` : "";
    const text = !row ? key : `${label(point)}: ${row.bpp.toFixed(4)} bpp, ${row.psnr.toFixed(2)} dB${frame}`;
    image.alt = text + (heat ? " (error map)" : "");
    $(`caption-${side}`).textContent = text;
  }
  moveEdge();
}
function moveEdge() {
  const share = $("slider").value;
  $("image-left").style.clipPath = `inset(0 ${100 - share}% 0 0)`;
  $("edge").style.left = `${share}%`;
}

/* Squares of the same place, a row for each sequence. */
function showCrops() {
  $("crops-section").hidden = !data.crops.length;
  $("crops").replaceChildren(...data.crops.map(row => {
    const shown = document.createElement("div");
    shown.className = "crops";
    shown.append(...row.map(tile => {
      const figure = document.createElement("figure"), image = document.createElement("img");
      image.src = tile.image;
      image.alt = tile.title;
      figure.append(image, element("figcaption", tile.title));
      return figure;
    }));
    return shown;
  }));
}

/* A finger or a mouse on the picture itself moves the edge too. */
function dragEdge(event) {
  if (event.type === "pointermove" && !event.buttons) return;
  const box = $("stage").getBoundingClientRect();
  $("slider").value = Math.round(100 * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
  moveEdge();
}

function drawTime() {
  const point = data.points[$("time-point").value], row = rowOf(point, $("time-sequence").value);
  if (!row) {
    $("time").replaceChildren(element("p", "not measured"));
    for (const id of ["quality", "rate", "buffer", "rate-hint"]) $(id).replaceChildren();
    return;
  }
  const names = Object.keys(row.terms), count = row.frame_bits.length;
  const stacks = names.length ? names.map(n => [n, row.terms[n]]) : [["all", row.frame_bits]];
  const W = plotWidth(), H = 240, left = 64, bottom = 34, top = 10;
  const sums = row.frame_bits.map((_, t) => stacks.reduce((sum, [, values]) => sum + values[t], 0));
  const most = Math.max(...sums, 1), wide = (W - left - 10) / count;
  const svg = shape("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "bits of every frame by term" });
  const Y = v => top + (1 - v / most) * (H - top - bottom);
  const [ys] = ticks(0, most, 4);
  for (const v of ys) svg.append(shape("line", { x1: left, x2: W - 10, y1: Y(v), y2: Y(v), class: "grid" }),
    shape("text", { x: left - 8, y: Y(v) + 4, "text-anchor": "end" }, v.toLocaleString("en")));
  sums.forEach((_, t) => {
    let base = 0;
    stacks.forEach(([name, values], k) => {
      const bar = shape("rect", { x: left + t * wide, width: Math.max(wide - 1, 0.5), y: Y(base + values[t]),
        height: Y(base) - Y(base + values[t]), fill: COLOURS[k % COLOURS.length] });
      bar.append(shape("title", {}, `frame ${t} (${row.type[t]}) ${name}: ${values[t]} bits, ${row.frame_psnr[t]} dB`));
      svg.append(bar);
      base += values[t];
    });
  });
  svg.append(shape("text", { x: (left + W) / 2, y: H - 6, "text-anchor": "middle" },
    `frame (bits per frame${names.length ? ", terms as estimated" : ""})`));
  $("time").replaceChildren(svg);
  drawHistory(row, W, left);
  legend($("time-legend"), stacks.map(([n], k) => [n === "all" ? "all bits" : n, COLOURS[k % COLOURS.length]]));
}

/* Values over frames as a line; those that are null have none. level: drawn as a dashed line. */
function drawLine(where, values, { W, left, name, says, low, high, shade, level, axis }) {
  const H = axis ? 170 : 140, bottom = axis ? 34 : 10, top = 10, wide = (W - left - 10) / values.length;
  const X = t => left + (t + 0.5) * wide, Y = v => top + (high - v) / (high - low) * (H - top - bottom);
  const svg = shape("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": says });
  const [ys, digits] = ticks(low, high, 4), middle = (top + H - bottom) / 2;
  for (const v of ys) svg.append(shape("line", { x1: left, x2: W - 10, y1: Y(v), y2: Y(v), class: "grid" }),
    shape("text", { x: left - 8, y: Y(v) + 4, "text-anchor": "end" }, v.toFixed(digits)));
  const known = values.map((v, t) => [t, v]).filter(([, v]) => v !== null);
  if (level !== undefined) svg.append(shape("line", { x1: left, x2: W - 10, y1: Y(level), y2: Y(level), class: "level" }));
  svg.append(shape("text", { x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` }, name),
    shape("polyline", { points: known.map(([t, v]) => `${X(t)},${Y(v)}`).join(" "), fill: "none",
      stroke: shade, "stroke-width": 2 }));
  if (axis) {
    const [xs, xDigits] = ticks(0, values.length / axis, W / 110);
    for (const v of xs) svg.append(shape("text", { x: left + v * axis * wide, y: H - bottom + 16,
      "text-anchor": "middle" }, v.toFixed(xDigits)));
    svg.append(shape("text", { x: (left + W) / 2, y: H - 4, "text-anchor": "middle" }, "seconds"));
  }
  where.replaceChildren(svg);
}
function drawHistory(row, W, left) {
  const over = row.over_time, known = over.rate.filter(v => v !== null);
  drawLine($("quality"), row.frame_psnr, { W, left, name: "PSNR (dB)", says: "RGB PSNR of every frame",
    low: Math.min(...row.frame_psnr) - 0.3, high: Math.max(...row.frame_psnr) + 0.3, shade: COLOURS[1] });
  drawLine($("rate"), over.rate, { W, left, name: "kbit/s", says: "rate over time", low: 0,
    high: Math.max(...known, over.mean, 1e-3) * 1.08, shade: COLOURS[4], level: over.mean });
  drawLine($("buffer"), over.waiting, { W, left, name: "buffer (s)", says: "what waits in a channel's buffer", low: 0,
    high: Math.max(...over.waiting, 1e-3) * 1.08, shade: COLOURS[3], axis: over.fps });
  $("rate-hint").textContent = `Rate: of the ${over.window} frames that end with each; dashed: the mean, ` +
    `${over.mean.toLocaleString("en")} kbit/s. Buffer: how long the bits that a channel of this mean rate has not taken yet will keep it busy.`;
}

/* One row for each codec and sequence, the metrics side by side. */
function deltas() {
  const short = { psnr: "PSNR", psnr_yuv: "PSNR YUV", psnr_planes: "PSNR of planes", xpsnr: "XPSNR",
    ms_ssim: "MS-SSIM", ms_ssim_planes: "MS-SSIM of planes", ssim_planes: "SSIM of planes", vmaf: "VMAF" }, metrics = Object.keys(data.bd);
  const rows = new Map();
  for (const metric of metrics) for (const r of data.bd[metric]) {
    const key = `${r.codec}|${r.sequence}`;
    if (!rows.has(key)) rows.set(key, { codec: r.codec, sequence: r.sequence, of: {}, notes: new Map() });
    const row = rows.get(key), note = r.problem || r.warning;
    row.of[metric] = r;
    if (note) row.notes.set(note, [...(row.notes.get(note) || []), short[metric]]);
  }
  const first = r => r.sequence === "mean curve" || r.sequence === "all" ? 0 : 1;
  table($("bd"), [
    { name: "codec", text: "text", get: r => r.codec }, { name: "sequence", text: "text", get: r => r.sequence },
    ...metrics.map(m => ({ name: `rate % by ${short[m]}`, digits: 1, get: r => r.of[m] && r.of[m].bd_rate })),
    ...metrics.map(m => ({ name: `dB ${short[m]}`, digits: 2, get: r => r.of[m] && r.of[m].bd_quality })),
    { name: "least overlap %", digits: 0, get: r => {
      const found = Object.values(r.of).map(d => d.overlap).filter(v => v !== null);
      return found.length ? 100 * Math.min(...found) : null;
    } },
    { name: "note", text: "text why", get: r => [...r.notes].map(([note, by]) =>
      by.length === metrics.length ? note : `${by.join(", ")}: ${note}`).join("; ") },
  ], [...rows.values()].sort((a, b) => first(a) - first(b)));
}

function start() {
  document.title = data.title;
  const s = data.sequences;
  $("summary").textContent = `${s.length} sequence${s.length === 1 ? "" : "s"}, ` +
    `${s.reduce((sum, q) => sum + q.frames, 0)} frames, ${codecs.length} codecs, ${data.points.length} points. ` +
    `Bits: ${[...new Set(data.points.map(p => p.rates))].join(" and ")}.`;
  $("notices").replaceChildren(...data.missing.map(m => element("li", `${m.codec} is left out: ${m.reason}`)),
    ...data.notes.map(note => element("li", note)),
    ...(data.points.some(p => p.rates === "estimate") ? [element("li", "Hollow points are estimates, not written bytes.")] : []),
    ...(data.lost_pictures.length ? [element("li", `${data.lost_pictures.length} decoded frames were not found.`)] : []),
    ...(data.metrics.ms_ssim && data.points.some(p => p.sequences.some(q => q.ms_ssim_scales < 5)) ?
      [element("li", "Some frames are below 161 pixels: their MS-SSIM uses fewer than five scales.")] : []));
  fill($("metric"), Object.entries(data.metrics));
  fill($("curve-sequence"), [["", "mean of all"], ...s.map(q => [q.name, q.name])]);
  for (const id of ["frame-sequence", "time-sequence"]) fill($(id), s.map(q => [q.name, q.name]));
  // Published points have no frames.
  fill($("time-point"), data.points.map((p, k) => [k, label(p)]).filter(([k]) => data.points[k].sequences.length));
  $("scale-end").textContent = `${data.heat_scale} of 255 levels and more`;
  for (const id of ["metric", "curve-sequence", "rate-axis"]) $(id).addEventListener("change", drawCurves);
  $("frame-sequence").addEventListener("change", chooseFrames);
  for (const id of ["left", "right", "show"]) $(id).addEventListener("change", drawFrames);
  $("slider").addEventListener("input", moveEdge);
  for (const kind of ["pointerdown", "pointermove"]) $("stage").addEventListener(kind, dragEdge);
  for (const id of ["time-point", "time-sequence"]) $(id).addEventListener("change", drawTime);
  let width = 0;
  window.addEventListener("resize", () => {
    if (plotWidth() !== width) { width = plotWidth(); drawCurves(); drawTime(); }
  });
  showCrops();
  $("anchor").textContent = data.anchor;
  deltas();
  const speed = (row, seconds) => row[seconds] ? row.frames / row[seconds] : null;
  const measured = key => data.points.some(p => p.mean[key] !== undefined);
  const qualities = of => [
    { name: "bpp", digits: 4, get: r => of(r).bpp },
    { name: "estimated bpp", digits: 4, get: r => of(r).bpp_estimate, key: "bpp_estimate" },
    { name: "PSNR", digits: 2, get: r => of(r).psnr },
    { name: "PSNR of mean MSE", digits: 2, get: r => of(r).psnr_of_mean_mse },
    { name: "PSNR YUV", digits: 2, get: r => of(r).psnr_yuv },
    { name: "MS-SSIM", digits: 4, get: r => of(r).ms_ssim, key: "ms_ssim" },
    { name: "LPIPS", digits: 4, get: r => of(r).lpips, key: "lpips" },
    { name: "DISTS", digits: 4, get: r => of(r).dists, key: "dists" },
    { name: "STSIM", digits: 4, get: r => of(r).stsim, key: "stsim" },
    { name: "flicker", digits: 3, get: r => of(r).flicker, key: "flicker" },
  ].filter(c => !c.key || measured(c.key));
  const speeds = [
    { name: "encode fps", digits: 2, get: r => speed(r, "encode_seconds") },
    { name: "decode fps", digits: 2, get: r => speed(r, "decode_seconds") },
    { name: "rates", text: "text", get: r => r.rates },
  ];
  const named = [{ name: "codec", text: "text", get: r => r.codec }, { name: "setting", text: "text", get: r => r.setting }];
  const whole = (rows, key) => rows.length && rows.every(q => q[key]) ? rows.reduce((sum, q) => sum + q[key], 0) : null;
  table($("means"), [...named, ...qualities(r => r.mean), ...speeds], data.points.map(p => ({ ...p,
    frames: whole(p.sequences, "frames"), encode_seconds: whole(p.sequences, "encode_seconds"),
    decode_seconds: whole(p.sequences, "decode_seconds") })));
  table($("rows"), [
    { name: "sequence", text: "text", get: r => r.name }, ...named, ...qualities(r => r),
    { name: "kbit/s", digits: 1, get: r => r.bits / r.frames * r.fps / 1000 }, ...speeds,
  ], data.points.flatMap(p => p.sequences.map(q => ({ ...q, codec: p.codec, setting: p.setting, rates: p.rates,
    fps: (s.find(t => t.name === q.name) || {}).fps }))));
  table($("split"), [
    { name: "codec", text: "text", get: r => r.codec }, { name: "setting", text: "text", get: r => r.setting },
    { name: "bpp I", digits: 4, get: r => r.I.bpp }, { name: "PSNR I", digits: 2, get: r => r.I.psnr },
    { name: "bpp P", digits: 4, get: r => r.P.bpp }, { name: "PSNR P", digits: 2, get: r => r.P.psnr },
  ], data.points.map(p => ({ codec: p.codec, setting: p.setting, I: split(p, "I"), P: split(p, "P") })));
  $("made").replaceChildren(...data.made.map(m => {
    const made = element("details"), inside = { settings: m.settings, versions: m.made_by };
    made.append(element("summary", m.command), element("pre", JSON.stringify(inside, null, 1)));
    return made;
  }), settings());
  drawCurves();
  chooseFrames();
  drawTime();
}
function split(point, type) {
  let bits = 0, psnr = 0, pixels = 0, count = 0;
  for (const row of point.sequences) row.type.forEach((t, k) => {
    if ((t === "I") !== (type === "I")) return;      // B-frames count with the P-frames
    bits += row.frame_bits[k]; psnr += row.frame_psnr[k]; pixels += row.width * row.height; count += 1;
  });
  return count ? { bpp: bits / pixels, psnr: psnr / count } : { bpp: null, psnr: null };
}
function settings() {
  const made = element("details");
  const text = data.points.map(p => `${label(p)} (${p.rates}): ${JSON.stringify(p.settings)}`).join("\n");
  const colours = data.sequences.map(q => `${q.name}: ${q.width}×${q.height}, ${q.frames} frames, ${q.colour}`);
  made.append(element("summary", "Settings of every point, and the sequences"),
    element("pre", `${text}\n\n${colours.join("\n")}`));
  return made;
}
start();

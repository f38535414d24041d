// The status page: receives the figures of the server each second, and shows them. What comes from clients is only ever
// set as text.
"use strict";

const SPAN = 180; // seconds in the charts
const SILENCE = 4; // seconds without figures, after which the page shows that it is disconnected, and tries again
const CONNECTING = 30; // seconds that a new connection has to come up, before the page replaces it

const CLOSES = {
  local: "closed by the server",
  dropped: "cut off by the server",
  eof: "finished by the client",
  reset: "reset by the client",
  connect_failed: "could not be made",
  timeout: "took too long",
  input_limit: "too long a line",
  output_limit: "did not read the output",
  handler: "an error in the server",
  panic: "a panic in the server",
  shutdown: "shutdown",
  interrupted: "cut off by the shutdown",
  piped: "its other end has ended",
  truncated: "ended without the close of TLS",
  tls: "an error of TLS",
  proxy_header: "a wrong PROXY header",
  io: "an error of the system",
};

const LOOP = {
  turns: "turns",
  wakeups: "wake-ups",
  events: "events",
  accepted: "connections accepted",
  refused: "connections refused",
  accepts_failed: "accepts failed",
  handshakes: "TLS handshakes",
  handshakes_failed: "TLS handshakes failed",
  opened: "sockets opened",
  closed: "sockets closed",
};

const at = (id) => document.getElementById(id);

let paused = false;
let last = null; // the figures
let lastTime = 0; // when they came
let rates = null; // what has changed since the ones before
let samples = [];
let restarts = [];

// ---- numbers for people

const count = (number) => number.toLocaleString("en");

function digits(number) {
  return number < 10 && number % 1 ? number.toFixed(1) : count(Math.round(number));
}

function size(bytes) {
  let unit = 0;
  for (; bytes >= 999.5 && unit < 5; unit++) bytes /= 1000;
  const number = unit && bytes < 9.95 ? bytes.toFixed(1) : bytes.toFixed(0);
  return `${number} ${["B", "kB", "MB", "GB", "TB", "PB"][unit]}`;
}

function duration(seconds) {
  seconds = Math.floor(seconds);
  const [minutes, hours, days] = [60, 3600, 86400].map((unit) => Math.floor(seconds / unit));
  if (days) return `${days} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes % 60} min`;
  return minutes ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
}

// ---- elements

// Text that has not changed stays: somebody may have selected it.
function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function add(parent, name) {
  return parent.appendChild(document.createElement(name));
}

// Gives a table these rows, which are lists of texts and numbers. A number that is not known is null.
function fill(id, rows, none) {
  const body = at(id).tBodies[0];
  const columns = at(id).tHead.rows[0].cells;
  if (!rows.length) rows = [[none]];
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((row, n) => {
    const line = body.rows[n] || body.insertRow();
    while (line.cells.length > row.length) line.deleteCell(-1);
    row.forEach((value, column) => {
      const cell = line.cells[column] || line.insertCell();
      cell.className = row.length === 1 ? "empty" : typeof value === "string" ? "" : "number";
      cell.colSpan = row.length === 1 ? columns.length : 1;
      set(cell, typeof value === "number" ? digits(value) : value || "–");
    });
  });
}

// ---- connections

function makeConnection(body) {
  const line = body.insertRow();
  // On a narrow screen the rows are shown as cards, and browsers would no longer announce them as rows.
  line.setAttribute("role", "row");
  for (let column = 0; column < 5; column++) line.insertCell().setAttribute("role", "cell");
  const progress = line.cells[3];
  add(progress, "progress").setAttribute("aria-label", "Progress of the transfer");
  add(progress, "span");
  return line;
}

function showConnection(line, { peer, protocol, request, age, active, done, total }) {
  const [client, kind, last, progress, open] = line.cells;
  line.className = active ? "" : "idle";
  set(client, peer);
  set(kind, protocol.toUpperCase());
  set(last, request || "–");
  set(open, duration(age));
  const [bar, text] = progress.children;
  bar.hidden = !(active && total);
  if (!bar.hidden) {
    bar.max = total;
    bar.value = done;
  }
  let shown = "";
  if (active && total) shown = `${Math.floor((100 * done) / total)} % of ${size(total)}`;
  else if (active) shown = `${size(done)} so far`;
  else if (done) shown = total && done < total ? `ended at ${size(done)} of ${size(total)}` : `${size(done)}, done`;
  set(text, shown);
}

function showConnections({ connections, open }) {
  const body = at("connections").tBodies[0];
  while (body.rows.length > connections.length) body.deleteRow(-1);
  connections.forEach((connection, n) => showConnection(body.rows[n] || makeConnection(body), connection));
  const hidden = open - connections.length;
  at("more").hidden = !hidden;
  set(at("more"), `and ${count(hidden)} more`);
}

// ---- charts

function draw(parent, name, attributes, text) {
  const element = parent.appendChild(document.createElementNS("http://www.w3.org/2000/svg", name));
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
}

// The next round number: 1, 2 or 5 and zeros.
function roundUp(number) {
  const power = 10 ** Math.floor(Math.log10(number));
  return [1, 2, 5, 10].find((step) => step * power >= number) * power;
}

function chart(id, series, unit, least) {
  const svg = at(id);
  const [width, height] = [svg.clientWidth, svg.clientHeight];
  if (!width) return;
  const [top, bottom, now] = [8, height - 18, Date.now() / 1000];
  const most = roundUp(Math.max(least, ...series.map(greatest)));
  const labels = [most / 2, most].map(unit);
  const left = 8 + 7 * Math.max(...labels.map((label) => label.length));
  const x = (time) => left + ((width - left) * (time - now + SPAN)) / SPAN;
  const y = (value) => bottom - ((bottom - top) * value) / most;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  for (const [value, label] of [[0, "0"], [most / 2, labels[0]], [most, labels[1]]]) {
    draw(svg, "line", { class: "grid", x1: left, x2: width, y1: y(value), y2: y(value) });
    draw(svg, "text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, label);
  }
  draw(svg, "text", { x: left, y: height - 3 }, "3 min ago");
  draw(svg, "text", { x: (left + width) / 2, y: height - 3, "text-anchor": "middle" }, "90 s ago");
  draw(svg, "text", { x: width, y: height - 3, "text-anchor": "end" }, "now");
  for (const time of restarts) {
    draw(svg, "line", { class: "restart", x1: x(time), x2: x(time), y1: top, y2: bottom });
    const anchor = x(time) > (left + width) / 2 ? "end" : "start";
    draw(svg, "text", { x: x(time) + (anchor === "end" ? -4 : 4), y: top + 12, "text-anchor": anchor }, "restart");
  }
  for (const name of series) {
    for (const part of parts()) {
      const points = part.map((sample) => `${x(sample.time).toFixed(1)},${y(sample[name]).toFixed(1)}`).join(" ");
      const ends = [part[part.length - 1], part[0]].map((sample) => `${x(sample.time).toFixed(1)},${bottom}`).join(" ");
      if (name !== "received") draw(svg, "polygon", { class: `${name} area`, points: `${points} ${ends}` });
      draw(svg, "polyline", { class: `${name} curve`, points });
    }
  }
}

const greatest = (name) => Math.max(0, ...samples.map((sample) => sample[name]));

// The samples, without the times in which there were none. After a restart there is nothing to compare with.
function parts() {
  const list = [];
  samples.forEach((sample, n) => {
    const before = samples[n - 1];
    if (!before || before.run !== sample.run || sample.time - before.time > SILENCE) list.push([]);
    list[list.length - 1].push(sample);
  });
  return list;
}

function drawCharts() {
  chart("requests-chart", ["requests"], digits, 5);
  chart("bytes-chart", ["sent", "received"], (bytes) => `${size(bytes)}/s`, 1000);
}

// What the charts show, for those who do not see them.
function describeCharts() {
  const now = samples[samples.length - 1];
  set(at("requests-text"), `Requests per second: ${digits(now.requests)} now, at most ${digits(greatest("requests"))}.`);
  const bytes = ["sent", "received"].map((name) => `${size(now[name])} ${name} now, at most ${size(greatest(name))}`);
  set(at("bytes-text"), `Bytes per second: ${bytes.join("; ")}.`);
}

// ---- figures

const total = (figures) => figures.requests.reduce((sum, [, , , number]) => sum + number, 0);

function difference(before, after) {
  const seconds = after.uptime - before.uptime;
  if (before.run !== after.run || seconds <= 0) return null;
  const rate = (from, to) => (to - from) / seconds;
  return {
    requests: rate(total(before), total(after)),
    sent: rate(before.sent, after.sent),
    received: rate(before.received, after.received),
    loop: Object.fromEntries(Object.keys(LOOP).map((name) => [name, rate(before.loop[name], after.loop[name])])),
  };
}

function show() {
  set(at("requests-rate"), rates ? `${digits(rates.requests)}/s` : "–");
  set(at("requests-total"), `${count(total(last))} in all`);
  for (const name of ["sent", "received"]) {
    set(at(`${name}-rate`), rates ? `${size(rates[name])}/s` : "–");
    set(at(`${name}-total`), `${size(last[name])} in all`);
  }
  set(at("open"), count(last.open));
  set(at("accepted"), `${count(last.loop.accepted)} accepted`);
  set(at("uptime"), duration(last.uptime));
  set(at("folder"), `shares ${last.folder}`);
  showConnections(last);
  const requests = last.requests.map(([protocol, method, code, number]) => [protocol.toUpperCase(), method, `${code}`, number]);
  fill("requests", requests, "No request has ended yet.");
  fill("loop", Object.entries(LOOP).map(([name, label]) => [label, last.loop[name], rates && rates.loop[name]]));
  fill("closes", Object.entries(last.closes).map(([reason, number]) => [CLOSES[reason] || reason, number]), "None has ended yet.");
  if (samples.length) describeCharts();
}

function showState() {
  const silence = (performance.now() - lastTime) / 1000;
  const isLost = !last || silence > SILENCE || source.readyState !== EventSource.OPEN;
  const state = isLost ? (last ? "lost" : "connecting") : paused ? "paused" : "live";
  at("state").dataset.state = state;
  const texts = { live: "Live", paused: "Paused", connecting: "Connecting", lost: "Disconnected, trying again" };
  set(at("state"), texts[state]);
  at("figures").classList.toggle("stale", state === "lost");
}

function receive(figures) {
  lastTime = performance.now();
  // The first event of a connection can be one that has come before.
  if (last && last.run === figures.run && last.uptime === figures.uptime) return;
  rates = last && difference(last, figures);
  if (last && last.run !== figures.run) {
    restarts.push(Date.now() / 1000);
    at("notice").hidden = false;
    set(at("notice"), `The server was restarted at ${new Date().toLocaleTimeString("en-GB")}. Its figures begin anew.`);
  }
  last = figures;
  const from = Date.now() / 1000 - SPAN;
  samples = samples.filter((sample) => sample.time > from);
  restarts = restarts.filter((time) => time > from);
  if (rates) samples.push({ time: Date.now() / 1000, run: figures.run, ...rates });
  if (!paused) show();
}

// ---- the connection

let source;
let made = 0; // when the source was made

function connect() {
  if (source) source.close();
  made = performance.now();
  source = new EventSource("events");
  source.onopen = source.onerror = showState;
  source.onmessage = (event) => {
    receive(JSON.parse(event.data));
    showState();
    if (!paused) drawCharts();
  };
}

// A browser connects again by itself, but not after the server has refused, nor while a connection is silent, as after a
// sleep of the computer.
function connectAgain() {
  const most = source.readyState === EventSource.CONNECTING ? CONNECTING : SILENCE;
  if (performance.now() - Math.max(lastTime, made) > 1000 * most) connect();
}

at("pause").addEventListener("click", () => {
  paused = !paused;
  at("pause").setAttribute("aria-pressed", paused);
  if (!paused && last) show();
  showState();
  drawCharts();
});
new ResizeObserver(drawCharts).observe(at("requests-chart"));
connect();
// Also while no figures come.
setInterval(() => {
  connectAgain();
  showState();
  if (!paused && source.readyState !== EventSource.OPEN) drawCharts();
}, 1000);

// Keeps the readings on the overview up to date. Everything a device says is
// text here: it is set as textContent or drawn as numbers, never as markup.

const keep = 60; // values of a field that its line shows
const maxRows = 1000; // devices on the page
const maxFields = 60; // values of one device
const freshFor = 10_000; // milliseconds

const list = document.getElementById("devices");
const state = document.getElementById("state");
const rows = new Map(); // source → row

const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const precise = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 5 });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const ago = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });

const sizes = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte", "petabyte"].map((unit) =>
  new Intl.NumberFormat(undefined, { style: "unit", unit, unitDisplay: "short", maximumSignificantDigits: 4 }));

function number(value) {
  return Math.abs(value) >= 100_000 || Number.isInteger(value) ? whole.format(value) : precise.format(value);
}

function size(value) {
  let i = 0;
  while (Math.abs(value) >= 1000 && i < sizes.length - 1) {
    value /= 1000;
    i += 1;
  }
  return sizes[i].format(value);
}

// The units that the end of a name tells.
const units = [
  { of: /_?bytes_per_second$/, show: (v) => `${size(v)}/s` },
  { of: /_?per_second$/, show: (v) => `${number(v)}/s` },
  { of: /_?bytes$/, show: size },
  { of: /_?percent$/, show: (v) => `${number(v)} %` },
  { of: /_?celsius$|^celsius_/, show: (v) => `${number(v)} °C` },
];

// label is the name of a field for people; the unit is beside the value.
function label(name) {
  const unit = units.find((u) => u.of.test(name));
  return ((unit && name.replace(unit.of, "")) || name).replaceAll("_", " ");
}

function show(name, value) {
  if (typeof value === "number") {
    return (units.find((u) => u.of.test(name))?.show ?? number)(value);
  }
  if (typeof value === "boolean") return value ? "yes" : "no";
  return String(value);
}

function since(time) {
  const s = Math.round((Date.now() - time) / 1000);
  if (s < 2) return "now";
  if (s < 100) return ago.format(-s, "second");
  if (s < 6000) return ago.format(-Math.round(s / 60), "minute");
  if (s < 172_800) return ago.format(-Math.round(s / 3600), "hour");
  return ago.format(-Math.round(s / 86_400), "day");
}

function say(kind, text) {
  state.dataset.state = kind;
  state.textContent = text;
}

function adopt(element) {
  const row = { element, list: element.querySelector(".events"), events: new Map(), seen: element.querySelector(".seen"), fields: new Map(), time: 0 };
  rows.set(element.dataset.source, row);
  return row;
}

// row returns the place of a device, which it makes for one that the page was
// not sent with. A page that shows a part of the devices stays with its part.
function row(reading) {
  const found = rows.get(reading.source);
  if (found) return found;
  if (rows.size >= maxRows || "partial" in list.dataset) return null;
  const element = document.getElementById("device").content.firstElementChild.cloneNode(true);
  element.dataset.source = reading.source;
  element.querySelector("h2").textContent = reading.id || reading.source;
  element.querySelector("p").textContent = reading.type || "";
  list.append(element);
  document.getElementById("empty")?.remove();
  filter();
  return adopt(element);
}

// draw sets the line of a field: its values from left to right, scaled to their range.
function draw(path, values) {
  if (values.length < 2) return path.removeAttribute("d");
  let low = Infinity;
  let high = -Infinity;
  for (const v of values) {
    low = Math.min(low, v);
    high = Math.max(high, v);
  }
  const range = high - low || 1;
  const flat = high === low;
  const step = 100 / (Math.max(values.length, 12) - 1); // the first few values do not fill the width
  const from = 100 - (values.length - 1) * step;
  path.setAttribute("d", values.map((v, i) => {
    const y = flat ? 12 : 22 - ((v - low) / range) * 20;
    return `${i ? "L" : "M"}${(from + i * step).toFixed(2)} ${y.toFixed(2)}`;
  }).join(""));
}

// group returns the place of a kind of event, in the order of their names.
function group(owner, event) {
  const found = owner.events.get(event);
  if (found) return found;
  const element = document.getElementById("event").content.firstElementChild.cloneNode(true);
  element.querySelector("h3").textContent = event;
  const after = [...owner.events.keys()].filter((e) => e > event).sort()[0];
  owner.list.insertBefore(element, after === undefined ? null : owner.events.get(after));
  owner.events.set(event, element);
  return element;
}

function place(owner, event, name) {
  const key = `${event}\n${name}`;
  const found = owner.fields.get(key);
  if (found) return found;
  if (owner.fields.size >= maxFields) return null;
  const element = document.getElementById("field").content.firstElementChild.cloneNode(true);
  element.querySelector("dt").textContent = label(name);
  element.title = name;
  group(owner, event).querySelector("dl").append(element);
  const field = { value: element.querySelector("dd"), path: element.querySelector("path"), values: [] };
  owner.fields.set(key, field);
  return field;
}

function update(reading) {
  const owner = row(reading);
  if (!owner) return;
  owner.time = Date.parse(reading.time) || Date.now();
  owner.seen.dateTime = new Date(owner.time).toISOString();
  owner.seen.title = exact.format(owner.time);
  const event = reading.event || "message";
  const fields = reading.note ? [{ name: "value", value: reading.note }] : reading.fields;
  for (const { name, value } of fields) {
    const field = place(owner, event, name);
    if (!field) continue;
    field.value.textContent = show(name, value);
    if (typeof value === "number") {
      field.values.push(value);
      if (field.values.length > keep) field.values.shift();
      draw(field.path, field.values);
    }
  }
  age(owner);
}

function age(owner) {
  if (!owner.time) return;
  owner.seen.textContent = since(owner.time);
  owner.element.toggleAttribute("data-fresh", Date.now() - owner.time < freshFor);
}

const search = document.getElementById("search");

function filter() {
  const want = search.value.trim().toLowerCase();
  for (const element of list.children) {
    element.hidden = want !== "" && !element.dataset.source.toLowerCase().includes(want);
  }
}

function listen() {
  const source = new EventSource(`/events?org=${encodeURIComponent(list.dataset.org)}`);
  source.addEventListener("hello", () => say("live", "Live"));
  source.addEventListener("readings", (e) => JSON.parse(e.data).forEach(update));
  source.addEventListener("skipped", (e) => say("live", `Live; ${whole.format(JSON.parse(e.data))} readings passed over`));
  source.addEventListener("bye", (e) => {
    if (JSON.parse(e.data) !== "signed-out") return; // the browser connects again by itself
    source.close();
    over();
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) return refused();
    say("wait", "Connection lost; trying again");
  });
}

// refused finds out why the server ended the stream for good: whoever is not
// signed in any more is told so, and everything else is tried again.
async function refused() {
  say("wait", "Connection lost; trying again");
  const answer = await fetch("/", { method: "GET", redirect: "manual", cache: "no-store" }).catch(() => null);
  if (answer && answer.type === "opaqueredirect") return over();
  setTimeout(listen, 3000);
}

function over() {
  say("over", "You are signed out; reload the page");
  for (const owner of rows.values()) owner.element.removeAttribute("data-fresh");
}

if (list) {
  for (const element of list.children) adopt(element);
  search.closest("label").hidden = false;
  search.addEventListener("input", filter);
  say("wait", "Connecting");
  setInterval(() => rows.forEach(age), 1000);
  listen();
}

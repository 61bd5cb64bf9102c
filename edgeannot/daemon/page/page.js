// The live page. Everything that comes from the daemon is put in as text: nothing here makes markup of it.
"use strict";

const by = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const KEPT = 50; // small pictures, as many as the daemon keeps

let state = null; // the newest figures
const pictures = new Map(); // source -> its newest picture
let newest = ""; // the source of the newest picture
let shownAt = ""; // which picture is in the table

function made(tag, text = "", name = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (name) element.className = name;
  return element;
}

function apart(text) {
  // What something is called: its marks of direction turn nothing round beside it.
  return made("bdi", text);
}

function setText(id, text) {
  // Only what changed: a screen reader reads a status again, and a selection would be lost.
  if (by(id).textContent !== text) by(id).textContent = text;
}

function fill(id, rows) {
  by(id).replaceChildren(...rows);
}

function countOf(number, thing) {
  return `${number.toLocaleString("en")}\u00a0${thing}${number === 1 ? "" : "s"}`;
}

function ago(moment) {
  const now = state ? Date.parse(state.now) : Date.now();
  const s = Math.max(0, Math.round((now - Date.parse(moment)) / 1000));
  if (s < 60) return `${s} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ago`;
  return `${Math.floor(s / 86400)} d ago`;
}

function clock(moment) {
  return new Date(moment).toLocaleTimeString("en-GB");
}

// -- state -----------------------------------------------------------------------------------------------------------------------

function showStatus(text, kind) {
  setText("status", text);
  by("status").dataset.state = kind;
}

function showState() {
  setText("device", state.device);
  document.title = `${state.device} – edgeannot`;
  setText("version", state.version);
  if (state.paused) showStatus("❚❚ Paused", "waiting");
  else if (state.sources.length && state.sources.every((each) => each.trouble)) showStatus("✕ No source works", "bad");
  else showStatus("▶ Running", "good");
  setText("pause", state.paused ? "Resume" : "Pause");
  by("controls").hidden = !state.controls;
  by("leave").hidden = !state.locked;
  showFigures();
  showChart("rate", (row) => row[1] / state.history.step_s, (value) => `${value.toFixed(value < 10 ? 1 : 0)}`);
  showChart("latency", (row) => row[2], (value) => `${value.toFixed(0)} ms`);
  showEvents();
  fill("sources", state.sources.map(sourceRow));
  showBroker();
  setText("model", `${state.model.name}, ${state.model.runtime}, ${countOf(state.model.threads, "thread")}`);
  const reasons = state.model.reasons.join("\n");
  if (by("reasons").dataset.of !== reasons) {
    by("reasons").dataset.of = reasons;
    fill("reasons", state.model.reasons.map((reason) => made("li", reason)));
  }
  showChoices("models", state.models, state.model.name);
  const names = state.sources.map((each) => each.name);
  by("chooser").hidden = names.length < 2;
  showChoices("source", ["newest of any", ...names], by("source").value || "newest of any");
  showPicture();
}

function showChoices(id, names, chosen) {
  const select = by(id);
  const wanted = names.join("\n") + "\n" + (id === "models" ? chosen : "");
  if (select.dataset.of === wanted) return; // while somebody chooses, nothing moves
  select.dataset.of = wanted;
  fill(id, names.map((name) => made("option", name)));
  select.value = names.includes(chosen) ? chosen : names[0] || "";
}

function showFigures() {
  const figures = [
    ["Rate", `${state.fps.toFixed(state.fps < 10 ? 2 : 1)} /s`],
    ["Median time", state.ms.p50 === undefined ? "–" : `${state.ms.p50.toFixed(0)} ms`],
    ["95 % within", state.ms.p95 === undefined ? "–" : `${state.ms.p95.toFixed(0)} ms`],
    ["Pictures", state.pictures.toLocaleString("en")],
    ["Not usable", state.rejected.toLocaleString("en")],
    ["Memory", `${(state.rss_bytes / 2 ** 20).toFixed(0)} MB`],
  ];
  if (state.temperature_c !== null) figures.push(["Temperature", `${state.temperature_c.toFixed(0)} °C`]);
  if (state.governor && state.governor.step) figures.push(["Slowed down", `${state.governor.step} below first choice`]);
  fill("figures", figures.map(([name, value]) => {
    const pair = document.createElement("div");
    pair.append(made("dt", name), made("dd", value));
    return pair;
  }));
}

function showChart(id, valueOf, told) {
  const { rows, steps, step_s: step } = state.history;
  const done = rows.filter((row) => row[0] > 0); // the step that runs is not whole yet
  const values = done.map(valueOf);
  const most = Math.max(...values, 0);
  fill(id, done.map((row, at) => {
    const bar = document.createElementNS(SVG, "rect");
    const height = most ? (46 * values[at]) / most : 0;
    bar.setAttribute("x", String(240 - (row[0] * 240) / (steps - 1)));
    bar.setAttribute("y", String(48 - height));
    bar.setAttribute("width", String((240 / (steps - 1)) * 0.8));
    bar.setAttribute("height", String(height));
    return bar;
  }));
  const last = done.length && done[done.length - 1][0] === 1 ? values[values.length - 1] : null;
  setText(`${id}-most`, values.length ? `(most ${told(most)})` : "(none yet)");
  const name = by(id).getAttribute("aria-label").split(":")[0];
  const said = values.length ? `${name}: ${last === null ? "none" : told(last)} in the last ${step} seconds, at most ${told(most)} in 10 minutes` : `${name}: none yet`;
  by(id).setAttribute("aria-label", said);
}

function showEvents() {
  by("events-section").hidden = state.events === null;
  const events = state.events || [];
  by("no-events").hidden = events.length > 0;
  fill("events", events.map((event) => {
    const row = made("li");
    const when = made("small");
    when.append(apart(event.source), `, since ${clock(event.since)}, ${ago(event.since)}`);
    row.append(apart(event.label), ` (track ${event.track})${event.still ? ", still" : ""}`, when);
    return row;
  }));
}

function sourceRow(source) {
  const row = made("li");
  row.append(apart(source.name), ` (${source.kind})`, made("small", `${countOf(source.pictures, "picture")}, ${source.fps} a second`));
  if (source.trouble) row.append(made("small", `✕ ${source.trouble}`, "bad"));
  return row;
}

function showBroker() {
  const broker = state.broker;
  if (!broker) {
    fill("broker", [document.createTextNode("None: results are not sent over MQTT.")]);
    return;
  }
  const words = { online: "● Connected", away: "✕ Not connected", new: "○ Connecting …", stopped: "✕ Stopped" };
  const waits = broker.waiting ? `${countOf(broker.waiting, "message")} wait on the disk` : "nothing waits";
  const dropped = broker.dropped ? `; ${countOf(broker.dropped, "message")} dropped` : "";
  const name = broker.state === "online" ? "good" : broker.state === "new" ? "" : "bad";
  fill("broker", [made("strong", words[broker.state] || broker.state, name), document.createTextNode(` – ${broker.address}; ${waits}${dropped}.`)]);
}

// -- pictures --------------------------------------------------------------------------------------------------------------------

function showPicture() {
  const chosen = by("chooser").hidden || by("source").selectedIndex < 1 ? newest : by("source").value;
  const picture = pictures.get(chosen);
  by("picture").hidden = !picture;
  by("no-picture").hidden = Boolean(picture);
  if (!picture) {
    setText("no-picture", chosen ? `No picture of ${chosen} yet.` : "No picture yet.");
    fill("caption", []);
  } else {
    const names = [picture.source, picture.name].filter(Boolean);
    const facts = ["", `${clock(picture.at)} (${ago(picture.at)})`, `${picture.size[0]}\u00a0×\u00a0${picture.size[1]}`, `${picture.ms.toFixed(0)}\u00a0ms`];
    if (picture.damage) facts.push(`damaged: ${picture.damage}`);
    const text = names.join(" · ") + facts.join(" · ");
    if (by("caption").textContent !== text) {
      fill("caption", [...names.flatMap((name, at) => (at ? [" · ", apart(name)] : [apart(name)])), facts.join(" · ")]);
    }
  }
  const which = picture ? `${picture.source} ${picture.number}` : "none";
  if (which === shownAt) return;
  shownAt = which;
  const found = picture ? picture.detections : [];
  if (picture) {
    by("picture").src = `data:image/jpeg;base64,${picture.jpeg}`;
    by("picture").alt = `Picture of ${picture.source} with ${countOf(picture.count, "detection")}`;
  }
  by("detections").hidden = !found.length;
  by("detections").classList.toggle("untracked", found.every((row) => row[3] < 0));
  by("no-detections").hidden = found.length > 0;
  setText("no-detections", picture ? "Nothing was found in this picture." : "Nothing yet.");
  const rows = found.map(([label, score, box, track]) => {
    const row = document.createElement("tr");
    const place = `${box[0]}, ${box[1]} to ${box[2]}, ${box[3]}`;
    row.append(made("td", label), made("td", score.toFixed(2), "number"), made("td", track < 0 ? "–" : String(track), "number track"), made("td", place, "number"));
    return row;
  });
  if (picture && picture.count > found.length) {
    const more = made("td", `and ${picture.count - found.length} more`);
    more.colSpan = 4;
    const row = document.createElement("tr");
    row.append(more);
    rows.push(row);
  }
  by("detections").tBodies[0].replaceChildren(...rows);
}

function addSmall(small) {
  const row = document.createElement("li");
  const image = document.createElement("img");
  const labels = small.labels.flatMap(([label, count], at) => [at ? ", " : "", apart(label), count > 1 ? ` × ${count}` : ""]);
  const when = made("small");
  when.append(apart(small.source), ` · ${clock(small.at)}`);
  image.src = `data:image/jpeg;base64,${small.jpeg}`;
  image.alt = "";
  row.append(image, ...labels, when);
  by("strip").prepend(row);
  while (by("strip").children.length > KEPT) by("strip").lastChild.remove();
  by("no-strip").hidden = true;
}

// -- the connection --------------------------------------------------------------------------------------------------------------

function connect() {
  const events = new EventSource("/events");
  let number = 0;
  events.addEventListener("hello", () => fill("strip", []));
  events.addEventListener("state", (event) => {
    state = JSON.parse(event.data);
    showState();
  });
  events.addEventListener("picture", (event) => {
    const picture = JSON.parse(event.data);
    picture.number = `${performance.now()} ${(number += 1)}`;
    pictures.set(picture.source, picture);
    newest = picture.source;
    showPicture();
  });
  events.addEventListener("small", (event) => addSmall(JSON.parse(event.data)));
  events.addEventListener("error", () => {
    showStatus("✕ No connection to the daemon; trying again", "bad");
    if (events.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    events.close();
    setTimeout(again, 5000);
  });
}

async function again() {
  try {
    const answer = await fetch("/", { cache: "no-store" });
    if (answer.redirected) location.assign("/login"); // the session has ended
    else connect();
  } catch {
    setTimeout(again, 5000);
  }
}

// -- the buttons -----------------------------------------------------------------------------------------------------------------

function say(text) {
  by("said").hidden = !text;
  setText("said", text);
}

async function press(button, command, body = {}) {
  button.disabled = true;
  say("");
  try {
    const answer = await fetch(`/command/${command}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (answer.status === 401) {
      location.assign("/login");
      return null;
    }
    if ((answer.headers.get("Content-Type") || "").startsWith("image/")) return await answer.blob();
    const reply = await answer.json();
    if (!reply.ok) say(`${command}: ${reply.error.message}`);
    return reply.ok ? reply.result : null;
  } catch {
    say(`${command}: the daemon did not answer`);
    return null;
  } finally {
    button.disabled = false;
  }
}

by("pause").addEventListener("click", () => press(by("pause"), state && state.paused ? "resume" : "pause"));
by("source").addEventListener("change", showPicture);
by("controls").addEventListener("submit", async (event) => {
  event.preventDefault();
  say("");
  const result = await press(by("switch"), "model", { name: by("models").value });
  if (result) say(`The model is now ${result.model}.`);
});
by("snapshot").addEventListener("click", async () => {
  const picture = await press(by("snapshot"), "snapshot");
  if (!(picture instanceof Blob)) return;
  const reader = new FileReader();
  reader.addEventListener("load", () => {
    by("taken-picture").src = reader.result;
    by("taken-file").href = reader.result;
    by("taken-file").download = `snapshot-${new Date().toISOString().slice(0, 19).replace(/:/g, "")}.jpg`;
    by("taken").showModal();
  });
  reader.readAsDataURL(picture);
});
by("taken-close").addEventListener("click", () => by("taken").close());
connect();

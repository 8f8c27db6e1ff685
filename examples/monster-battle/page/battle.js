// The page: the door, the battle as of the most advanced panel, and the panels, each with its own
// client.

import { Chat } from "./chat.js";
import { draw } from "./monster.js";
import { FAMILIES, idOf, nameOf, Panel } from "./panel.js";

const $ = (selector) => document.querySelector(selector);
const ALL = ["ws", "sse", "poll", "short"];
const CHOICES = ["all", "auto", ...ALL];
const KEEP_MS = 700;
const LOGGED = 40;

/** @type {Panel[]} */
let panels = [];
let me;
let timers = [];
let isDrawing = false;
let shown = { number: 0, applied: 0, hp: 0 };

// ---- the door -------------------------------------------------------------------------------------------------------

function openDoor(error = "") {
  $("#game").hidden = true;
  $("#door").hidden = false;
  $("#door-error").textContent = error;
}

function makeDoor() {
  const kept = JSON.parse(sessionStorage.getItem("battle.me") ?? "null");
  FAMILIES.forEach((family, at) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "family", value: family, required: true });
    input.checked = kept ? kept.family === family : at === 0;
    label.dataset.family = family;
    label.append(input, family);
    $("#families").append(label);
  });
  $("#enter").addEventListener("submit", (event) => {
    event.preventDefault();
    const { name, family } = event.target.elements;
    const user = idOf(name.value);
    if (!user) return openDoor("The name needs a character that can be seen.");
    enter({ user, family: family.value });
  });
  if (!kept) return openDoor();
  $("#name").value = nameOf(kept.user);
  enter(kept);
}

async function enter(who) {
  me = who;
  $("#door").hidden = true;
  $("#game").hidden = false;
  $("#me").textContent = `${nameOf(me.user)} of the ${me.family}`;
  $("#me").dataset.family = me.family;
  await play().catch((error) => leave(error.message));
}

function leave(error = "") {
  end();
  sessionStorage.removeItem("battle.me");
  // The prefix of the client's message is of no use here.
  openDoor(error.replace(/^the client has ended: /, ""));
}

// ---- panels ---------------------------------------------------------------------------------------------------------

function choice() {
  const asked = new URLSearchParams(location.search).get("transport");
  return CHOICES.includes(asked) ? asked : document.body.dataset.transport;
}

function end() {
  for (const timer of timers.splice(0)) clearInterval(timer);
  for (const panel of panels.splice(0)) panel.close();
}

/** Returns the bytes of a request's heads: pages cannot see those of a WebSocket handshake. */
async function handshake() {
  const offer = await fetch("/im").catch(() => undefined);
  return Number(offer?.headers.get("x-wire")?.split(" ")[0] ?? 0);
}

async function play() {
  end();
  const wanted = choice();
  $("#transport").value = wanted;
  const heads = await handshake();
  panels = (wanted === "all" ? ALL : [wanted]).map(
    (transport) => new Panel({ transport, me, handshake: heads, onChange: change }),
  );
  $("#panels").replaceChildren(...panels.map(({ element }) => element));
  $("#panels").dataset.count = panels.length;
  for (const panel of panels) panel.line.isOn = $("#delay").checked;
  shown = { number: 0, applied: 0, hp: 0 };
  const [first] = panels;
  first.battle.on("event", log);
  const chat = new Chat($("#chat"), me);
  timers = [setInterval(second, 1000), setInterval(() => $("#keep").checked && strike(), KEEP_MS)];
  change();
  second();
  try {
    await Promise.all(panels.map(({ ready }) => ready));
    sessionStorage.setItem("battle.me", JSON.stringify(me));
    const { events } = await first.battle.history({ limit: 200 });
    $("#log").replaceChildren();
    events.reverse().forEach(log);
    await chat.begin(first.client);
  } catch (error) {
    if (panels[0] === first) leave(error.message);
  }
}

function strike() {
  for (const panel of panels) panel.strike();
}

function second() {
  for (const panel of panels) panel.count();
  const most = (what) => Math.max(...panels.map(({ perSecond }) => Math.max(...perSecond[what])), 1);
  const scale = { requests: most("requests"), bytes: most("bytes") };
  for (const panel of panels) panel.tick(scale);
}

// ---- drawing --------------------------------------------------------------------------------------------------------

/** Schedules one redraw in the next frame, or soon where frames are paused. */
function change() {
  if (isDrawing) return;
  isDrawing = true;
  const drawAll = () => {
    isDrawing = false;
    for (const panel of panels) panel.draw();
    drawArena();
  };
  if (document.hidden) setTimeout(drawAll, 0);
  else requestAnimationFrame(drawAll);
}

/** Returns the most advanced panel. */
function newest() {
  return panels.filter(({ hp }) => hp).reduce((best, one) => (best && best.hp.applied >= one.hp.applied ? best : one), undefined);
}

function drawArena() {
  const panel = newest();
  if (!panel) return;
  const { hp } = panel;
  drawDrops();
  if (hp.applied <= shown.applied) return;
  const part = hp.hp / hp.max;
  draw($("#monster"), hp.number, part);
  $("#monster-name").textContent = hp.monster;
  $("#monster-number").textContent = `Monster ${hp.number}`;
  $("#hp-fill").style.width = `${100 * part}%`;
  $("#hp-fill").dataset.low = part < 0.35;
  $("#hp-text").textContent = hp.hp > 0 ? `${hp.hp} of ${hp.max} hit points` : "Down! The next one is on its way …";
  const { last } = hp;
  $("#last").textContent = last ? `${nameOf(last.by)} of the ${last.family}: ${last.damage}${last.critical ? ", what a blow!" : ""}` : "";
  if (hp.number === shown.number && hp.hp < shown.hp) hurt(shown.hp - hp.hp, last?.critical);
  shown = hp;
  drawRanking(panel.battle.state.get("ranking"));
}

/** Shakes the monster and shows the damage. */
function hurt(damage, isCritical) {
  const spark = document.createElement("span");
  spark.textContent = `−${damage}`;
  spark.classList.toggle("critical", Boolean(isCritical));
  spark.style.left = `${25 + Math.random() * 50}%`;
  spark.style.top = `${15 + Math.random() * 35}%`;
  $("#sparks").append(spark);
  setTimeout(() => spark.remove(), 1000);
  while ($("#sparks").children.length > 8) $("#sparks").firstChild.remove();
  $("#monster").classList.remove("hurt");
  void $("#monster").getBoundingClientRect(); // restarts the animation
  $("#monster").classList.add("hurt");
}

function line(name, family, value, part, extra = "") {
  const made = document.createElement("li");
  made.dataset.family = family;
  const [who, much, bar] = [document.createElement("span"), document.createElement("b"), document.createElement("i")];
  who.textContent = name + extra;
  much.textContent = value;
  bar.style.width = `${100 * part}%`;
  made.append(who, much, bar);
  return made;
}

function drawRanking(ranking) {
  if (!ranking) return;
  const families = [...ranking.families].sort((a, b) => b.damage - a.damage);
  const top = Math.max(1, families[0].damage);
  $("#family-ranks").replaceChildren(
    ...families.map(({ family, damage, trophies }) => line(family, family, damage, damage / top, trophies ? ` · won ${trophies}` : "")),
  );
  const best = Math.max(1, ranking.players[0]?.damage ?? 1);
  const players = ranking.players.slice(0, 5);
  $("#player-ranks").replaceChildren(...players.map(({ name, family, damage }) => line(nameOf(name), family, damage, damage / best)));
}

/** Draws the number of late updates and of dropped ones. */
function drawDrops() {
  const late = panels.reduce((sum, { line: { sent } }) => sum + sent, 0);
  const dropped = panels.reduce((sum, panel) => sum + panel.dropped, 0);
  const server = newest().battle.state.get("late");
  $("#drops").hidden = late === 0 && !$("#delay").checked;
  const told = server ? ` The game sent the engine ${server.sent} old ones again: ${server.refused} refused.` : "";
  $("#drops").textContent = `Updates that came late here: ${late}, dropped by their stamp: ${dropped}.${told}`;
}

/** Shows an event of the log. */
function log({ kind, content }) {
  if (kind !== "slain" && kind !== "appears") return;
  const made = document.createElement("li");
  if (kind === "slain") {
    made.dataset.family = content.family;
    made.textContent = `${content.monster} was slain by ${nameOf(content.by)}; the trophy went to the ${content.family}.`;
  } else {
    made.textContent = `Monster ${content.number} appeared.`;
  }
  $("#log").prepend(made);
  while ($("#log").children.length > LOGGED) $("#log").lastChild.remove();
}

// ---- what people press ----------------------------------------------------------------------------------------------

$("#strike").addEventListener("click", strike);
$("#monster").addEventListener("click", strike);
$("#leave").addEventListener("click", () => leave());
$("#delay").addEventListener("change", ({ target }) => {
  for (const panel of panels) panel.line.isOn = target.checked;
  change();
});
$("#transport").addEventListener("change", ({ target }) => {
  const url = new URL(location.href);
  url.searchParams.set("transport", target.value);
  history.replaceState(null, "", url);
  play();
});
makeDoor();

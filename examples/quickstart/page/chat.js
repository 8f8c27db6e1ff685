// The page: the door, the messages, the composer. Text from others is inserted with textContent
// only.

import { Connection, Lost, Refused } from "./connection.js";
import { Messages } from "./messages.js";
import { asId } from "./names.js";
import { Room } from "./room.js";

const $ = (id) => document.getElementById(id);
const TYPING_SHOWN_MS = 5_000;
const NAMES = ["Ada", "Bela", "Chidi", "Dora", "Emil", "Femi", "Greta", "Hana", "Ilya", "Juno", "Kofi", "Lena", "Mika"];

let chat = null; // {name, room, roomName, connection, messages}

// ---- the door -------------------------------------------------------------------------------------------------

function roomInAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return ""; // an invalid escape names no room
  }
}

function showDoor() {
  $("chat").hidden = true;
  $("door").hidden = false;
  $("name").value = localStorage.getItem("im.name") ?? NAMES[Math.floor(Math.random() * NAMES.length)];
  $("room").value = roomInAddress() || (localStorage.getItem("im.room") ?? "lobby");
  $("door-error").textContent = "";
  document.title = "Chat";
  $("name").select();
  $("name").focus();
}

/** Shows an error at a field, whose content is kept for correction. */
function refuse(field, words) {
  $("door-error").textContent = words;
  $(field).focus();
}

function enter(name, roomName) {
  const user = asId(name, 64);
  const room = asId(roomName, 128);
  if (!user) return refuse("name", "The name needs a character that can be seen.");
  if (!room) return refuse("room", "The room needs a character that can be seen.");
  if (/^(dm|user):/.test(room)) return refuse("room", "Rooms that begin with dm: or user: are made by the server.");
  localStorage.setItem("im.name", name);
  localStorage.setItem("im.room", room);
  sessionStorage.setItem("im.inside", JSON.stringify({ name, room }));
  if (roomInAddress() !== room) history.replaceState(null, "", `#${encodeURIComponent(room)}`);
  open(name, user, room);
}

$("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  enter($("name").value.trim(), $("room").value);
});

// ---- the room -------------------------------------------------------------------------------------------------

function open(name, user, roomName) {
  close();
  const messages = new Messages({
    scroller: $("scroller"), list: $("messages"), outbox: $("outbox"), beginning: $("beginning"), latest: $("latest"),
    template: $("message"),
    on: {
      top: loadOlder,
      retry: (mid) => room.retry(mid),
      discard: (mid) => room.discard(mid),
      hasGap: (seq) => room.hasGap(seq),
    },
  });
  const room = new Room(roomName, {
    clear: () => messages.clear(),
    events: (list) => {
      messages.append(list, room.me);
      list.forEach(({ from }) => typing.delete(from));
      showTyping();
      unread(list);
    },
    older: (list) => messages.prepend(list, room.me),
    outbox: (entries) => messages.outbox(entries),
    typing: heardTyping,
    named: (user, name) => messages.named(user, name),
    note: (words) => messages.note(words),
    denied: (words) => stopped(words),
  });
  const url = new URL("/ws", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const connection = new Connection({
    url, user,
    on: {
      state: showState,
      push: (frame) => room.push(frame),
      ready: async (welcome) => {
        await room.enter(welcome);
        room.tellName(name);
        messages.beginning(room.more);
        messages.wantOlder();
      },
    },
  });
  room.attach(connection);
  chat = { name, room, roomName, connection, messages };
  $("door").hidden = true;
  $("chat").hidden = false;
  $("room-name").textContent = roomName;
  $("me").textContent = name;
  $("text").disabled = $("send").disabled = false;
  document.title = roomName;
  connection.start();
  $("text").focus();
}

function close() {
  if (!chat) return;
  chat.connection.stop();
  chat.room.pause();
  chat.messages.end();
  chat = null;
  typing.clear();
  showTyping();
}

async function loadOlder() {
  const { room, messages } = chat;
  let came = false;
  try {
    came = await room.older();
  } catch (error) {
    if (error instanceof Refused) messages.note(error.message);
    else if (!(error instanceof Lost)) throw error;
  }
  messages.beginning(room.more);
  if (came) messages.wantOlder(); // a tall window holds more than a page
}

$("leave").addEventListener("click", async () => {
  const { room, connection } = chat;
  const atMost = new Promise((resolve) => setTimeout(resolve, 1_000));
  const leave = async () => { await room.leave(); await connection.request("logout"); };
  await Promise.race([leave().catch(() => {}), atMost]); // if it fails, the page closes the room nevertheless
  close();
  sessionStorage.removeItem("im.inside");
  sessionStorage.removeItem("im.session");
  showDoor();
});

$("share").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(location.href);
    $("share").textContent = "Copied";
  } catch {
    $("share").textContent = "See address bar"; // no clipboard without https or permission
  }
  setTimeout(() => { $("share").textContent = "Copy link"; }, 2_000);
});

// Another room in the address: switch to it.
addEventListener("hashchange", () => {
  const room = roomInAddress();
  if (chat && room && room !== chat.roomName) enter(chat.name, room);
  else if (!chat) $("room").value = room || $("room").value;
});

// ---- how it stands --------------------------------------------------------------------------------------------

let countdown = 0;

function showState({ name, ms, again, code, words }) {
  clearInterval(countdown);
  const say = (text) => { if ($("state").textContent !== text) $("state").textContent = text; };
  $("state").dataset.is = name;
  $("state").title = "";
  if (name === "online") say("Connected");
  if (name === "connecting") say(again ? "Connecting again…" : "Connecting…");
  if (name === "waiting") {
    chat.room.pause();
    const until = Date.now() + ms;
    $("state").title = words ? sentence(words) : "The connection was lost.";
    const tell = () => {
      const left = Math.ceil((until - Date.now()) / 1000);
      say(left > 1 ? `Offline, trying again in ${left} s` : "Offline, trying again…");
    };
    tell();
    countdown = setInterval(tell, 1_000);
  }
  if (name === "stopped") {
    chat.room.pause();
    stopped(words || `The server ended this (${code}).`);
  }
}

/** Final: only the user can decide to reconnect. */
function stopped(words) {
  $("state").dataset.is = "stopped";
  $("state").textContent = "Ended";
  $("text").disabled = $("send").disabled = true;
  chat.messages.note(`${sentence(words)} Reload the page to come in again.`);
  sessionStorage.removeItem("im.session");
}

function sentence(words) {
  return words[0].toUpperCase() + words.slice(1) + (/[.!?]$/.test(words) ? "" : ".");
}

let news = 0;

function unread(list) {
  if (!document.hidden) return;
  news += list.filter(({ from, kind }) => kind === "message" && from !== chat.room.me).length;
  document.title = news > 0 ? `(${news}) ${chat.roomName}` : chat.roomName;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden || !chat) return;
  news = 0;
  document.title = chat.roomName;
});

const typing = new Map(); // user → {name, timer}

function heardTyping(user, name) {
  clearTimeout(typing.get(user)?.timer);
  const timer = setTimeout(() => { typing.delete(user); showTyping(); }, TYPING_SHOWN_MS);
  typing.set(user, { name: typeof name === "string" ? name.slice(0, 40) : user, timer });
  showTyping();
}

function showTyping() {
  const names = [...typing.values()].map(({ name }) => name);
  const words = ["", `${names[0]} is typing`, `${names[0]} and ${names[1]} are typing`][names.length];
  $("typing").textContent = words ?? "Several people are typing";
}

// ---- the composer ---------------------------------------------------------------------------------------------

function send() {
  const text = $("text").value.trim();
  if (!text || !chat) return;
  $("text").value = "";
  fit();
  chat.messages.toEnd();
  chat.room.send(text, chat.name);
}

function fit() {
  $("text").style.height = "auto";
  $("text").style.height = `${$("text").scrollHeight}px`;
}

$("text").addEventListener("input", () => {
  fit();
  if ($("text").value.trim()) chat?.room.typing(chat.name);
});

$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
  $("text").focus();
});

// ---- begin ----------------------------------------------------------------------------------------------------

const inside = JSON.parse(sessionStorage.getItem("im.inside") ?? "null");
if (inside && (!roomInAddress() || roomInAddress() === inside.room)) enter(inside.name, inside.room);
else showDoor();

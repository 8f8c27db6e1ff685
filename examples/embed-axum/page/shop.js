// The shop's page: its orders, and the team's room. Text is inserted with textContent only.

import { Connection } from "./connection.js";
import { Room } from "./room.js";

const $ = (id) => document.getElementById(id);

// ---- orders: the shop's own routes --------------------------------------------------------------------------------

async function showOrders() {
  const answer = await fetch("/orders");
  if (answer.status === 401) return location.assign("/login");
  const orders = await answer.json();
  $("none").hidden = orders.length > 0;
  $("orders").replaceChildren(...orders.map(({ item, by }) => line(item, by)));
}

function line(text, soft) {
  const li = document.createElement("li");
  const small = document.createElement("span");
  small.className = "soft";
  small.textContent = soft;
  li.append(text, " ", small);
  return li;
}

$("order").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = await fetch("/orders", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ item: $("item").value }),
  });
  $("order-error").textContent = answer.ok ? "" : await answer.text();
  if (answer.ok) $("item").value = "";
  await showOrders();
});

// ---- chat: the engine's -------------------------------------------------------------------------------------------

const room = new Room("team", {
  clear: () => $("messages").replaceChildren(),
  events: (list) => show(list, (rows) => $("messages").append(...rows)),
  older: (list) => show(list, (rows) => $("messages").prepend(...rows)),
  outbox: (entries) => { $("outbox").replaceChildren(...entries.map(({ text, failed }) => message("You", text, failed ?? "…"))); toEnd(); },
  typing: () => {},
  note: (words) => { $("messages").append(line("", words)); toEnd(); },
  denied: (words) => { $("state").textContent = words; },
});

function show(list, put) {
  put(list.filter(({ kind }) => kind === "message").map((event) => {
    const time = new Date(event.at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    return message(event.from === room.me ? "You" : event.from, event.content?.text ?? "", time);
  }));
  toEnd();
  if (list.some(({ from }) => from === "clerk")) showOrders(); // another user may have ordered
}

function message(who, text, soft) {
  const li = line(text, soft);
  const name = document.createElement("strong");
  name.textContent = who;
  li.prepend(name, " ");
  return li;
}

function toEnd() {
  $("scroller").scrollTop = $("scroller").scrollHeight;
}

$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (text) room.send(text, room.me ?? "");
  $("text").value = "";
});

const url = new URL("/chat/ws", location.href);
url.protocol = url.protocol.replace("http", "ws");

// No user is passed: the browser sends the shop's session cookie, which names the user.
const connection = new Connection({
  url,
  on: {
    state: ({ name, words }) => {
      if (name === "waiting" || name === "stopped") room.pause();
      $("state").textContent = { online: "", connecting: "connecting…", waiting: "no connection, trying again…", stopped: words }[name];
      if (name === "stopped") showOrders(); // redirects to the login if the login has ended
    },
    push: (frame) => room.push(frame),
    ready: async (welcome) => {
      await room.enter(welcome);
      $("who").textContent = welcome.user;
    },
  },
});
room.attach(connection);
connection.start();
showOrders();

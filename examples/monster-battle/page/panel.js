// One transport: its own client, its own view of the battle, and its cost.

import { connect } from "/im-client/index.js";
import { bars, dots } from "./chart.js";
import { LateLine } from "./late-line.js";
import { Meter } from "./meter.js";

export const NAMES = {
  ws: "WebSocket",
  sse: "Server-Sent Events",
  poll: "Long polling",
  short: "Short polling",
  auto: "The best that works",
  tab: "Another tab",
};
export const FAMILIES = ["foxes", "otters", "ravens", "badgers"];
export const nameOf = (user) => user.replaceAll("_", " ");
/** Characters not allowed in ids: white space, controls, surrogates, invisible ones (wire/SPEC.md). */
const UNSEEN = /[\p{White_Space}\p{Cc}\p{Cs}\p{Default_Ignorable_Code_Point}\u2800\ufff9-\ufffb]/gu;
/** Returns the user id for a typed name: at most 64 bytes, empty if no character is visible. */
export function idOf(name) {
  const words = name.split(/\p{White_Space}+/u).map((word) => word.replace(UNSEEN, ""));
  let id = words.filter(Boolean).join("_");
  while (new TextEncoder().encode(id).length > 64) id = [...id].slice(0, -1).join("");
  return id;
}
const STATES = { connecting: "connecting", online: "online", waiting: "comes back", closed: "ended" };
const MEASURED_MS = 60_000;
const REMEMBERED = 200;
/** Maximum of pending hits per panel; further ones wait. */
const MOST_PENDING = 32;

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
export const inMs = (ms) => (ms < 10 ? `${ms.toFixed(1)} ms` : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`);
export const inBytes = (n) => (n < 1000 ? `${Math.round(n)} B` : n < 1e6 ? `${(n / 1000).toFixed(1)} kB` : `${(n / 1e6).toFixed(2)} MB`);

export class Panel {
  /** @param {{transport: string, me: {user: string, family: string}, handshake: number, onChange: () => void}} setup */
  constructor({ transport, me, handshake, onChange }) {
    Object.assign(this, { transport, me, onChange });
    this.line = new LateLine();
    this.meter = new Meter(transport, this.line, handshake);
    this.client = connect({ url: "/im", user: me.user, transport, env: this.meter.env });
    this.battle = this.client.room("battle");
    this.dropped = 0;
    this.pending = 0;
    /** Recently drawn states: up to which event, and when. */
    this.drawn = [];
    /** Times from click to display, of the last minute. */
    this.times = [];
    this.perSecond = { requests: [], bytes: [], last: { requests: 0, bytes: 0 } };
    this.battle.on("state", onChange);
    this.battle.on("stale", () => {
      this.dropped += 1;
      onChange();
    });
    this.client.on("status", onChange);
    this.element = document.querySelector("#panel").content.firstElementChild.cloneNode(true);
    this.element.dataset.transport = transport;
    this.find("h3").textContent = NAMES[transport];
    this.find(".one").addEventListener("click", () => this.strike());
    this.ready = this.begin();
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  async begin() {
    await this.battle.join();
    await this.battle.subscribe();
  }

  get hp() {
    return this.battle.state.get("hp");
  }

  /** Strikes over this panel's connection, and measures the time until the hit is displayed here. */
  async strike() {
    if (this.pending >= MOST_PENDING || this.client.status === "closed") return;
    const began = performance.now();
    this.pending += 1;
    try {
      const hit = { family: this.me.family, late: this.line.isOn || undefined };
      const { seq } = await this.battle.send(hit, { kind: "hit" });
      const seen = (this.drawn.find(({ applied }) => applied >= seq) ?? (await this.whenDrawn(seq))).at;
      this.times.push({ at: seen, ms: seen - began });
    } catch {
      // The hit failed, so there is nothing to measure.
    } finally {
      this.pending -= 1;
    }
  }

  whenDrawn(seq) {
    return new Promise((resolve) => {
      (this.awaited ??= []).push({ seq, resolve });
    });
  }

  /** Draws the current state; `tick` draws the charts. */
  draw() {
    const { client, hp, line } = this;
    const state = this.find(".state");
    state.dataset.is = client.status;
    state.textContent = this.transport === "auto" && client.transport ? NAMES[client.transport] : STATES[client.status];
    if (hp) {
      this.find(".hp > span").style.width = `${(100 * hp.hp) / hp.max}%`;
      this.find(".hp-left").textContent = hp.hp;
      this.find(".hp-of").textContent = `of ${hp.max}`;
      this.drawShares();
      this.element.dataset.applied = hp.applied;
      const shown = { applied: hp.applied, at: performance.now() };
      if (this.drawn.at(-1)?.applied !== hp.applied) this.drawn.push(shown);
      if (this.drawn.length > REMEMBERED) this.drawn.shift();
      const waiting = this.awaited ?? [];
      this.awaited = waiting.filter(({ seq, resolve }) => seq > hp.applied || void resolve(shown));
    }
    this.find(".stale").textContent = line.sent > 0 ? `${line.sent} late, ${this.dropped} dropped` : "";
    this.find(".stale").title = "updates that came late, and those of them that the client dropped by their stamp";
  }

  drawShares() {
    const ranking = this.battle.state.get("ranking");
    if (!ranking) return;
    const shares = this.find(".shares");
    const all = Math.max(1, ranking.families.reduce((sum, { damage }) => sum + damage, 0));
    shares.setAttribute("aria-label", ranking.families.map(({ family, damage }) => `${family} ${damage}`).join(", "));
    const parts = ranking.families.map(({ family, damage }) => {
      const part = document.createElement("span");
      part.dataset.family = family;
      part.style.flexGrow = damage / all;
      return part;
    });
    shares.replaceChildren(...parts);
  }

  /** Records the counts of one second. */
  count() {
    const { meter, perSecond } = this;
    for (const what of ["requests", "bytes"]) {
      perSecond[what].push(meter[what] - perSecond.last[what]);
      perSecond[what].splice(0, perSecond[what].length - 60);
      perSecond.last[what] = meter[what];
    }
    const now = performance.now();
    this.times = this.times.filter(({ at }) => now - at < MEASURED_MS);
  }

  /** @param {{requests: number, bytes: number}} most the values of the charts' heights, equal in all panels */
  tick(most) {
    const { meter, perSecond, times } = this;
    const set = (what, value, small) => {
      this.find(`.${what} b`).textContent = value;
      this.find(`.${what} small`).textContent = small;
    };
    const last = times.at(-1);
    set("latency", last ? inMs(median(times.map(({ ms }) => ms))) : "–", last ? `last ${inMs(last.ms)}` : "strike to see");
    set("requests", meter.requests, `${perSecond.requests.at(-1)}/s`);
    set("bytes", inBytes(meter.bytes), `${inBytes(perSecond.bytes.at(-1))}/s`);
    this.find(".connections").textContent = meter.connections === 1 ? "1 connection" : `${meter.connections} connections`;
    dots(this.find(".latency svg"), times, performance.now());
    bars(this.find(".requests svg"), perSecond.requests, most.requests);
    bars(this.find(".bytes svg"), perSecond.bytes, most.bytes);
  }

  close() {
    this.client.close();
    this.element.remove();
  }
}

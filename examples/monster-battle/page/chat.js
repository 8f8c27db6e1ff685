// The family's room: ordinary durable messages.

import { messageId } from "/im-client/ids.js";
import { nameOf } from "./panel.js";

const SHOWN = 200;
const GAME = "the-game";

export class Chat {
  /**
   * @param {HTMLElement} section
   * @param {{user: string, family: string}} me
   */
  constructor(section, me) {
    this.me = me;
    this.list = section.querySelector("ol");
    section.querySelector("h2").textContent = `The ${me.family}`;
    this.list.replaceChildren();
    section.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      const input = event.target.elements.text;
      const text = input.value.trim();
      if (text) this.say(text);
      input.value = "";
    };
  }

  /** @param {import("/im-client/index.js").Client} client the client to use from now on */
  async begin(client) {
    this.room = client.room(`family:${this.me.family}`);
    this.stop = this.room.on("message", (event) => this.show(event));
    await this.room.join();
    const { epoch, head, events } = await this.room.history({ limit: 50 });
    for (const event of events.reverse()) if (event.kind === "message") this.show(event);
    await this.room.subscribe({ since: { epoch, seq: head } });
  }

  async say(text) {
    const mid = messageId();
    const line = this.add(mid, this.me.user, text);
    line.classList.add("pending");
    try {
      await this.room.send({ text }, { mid });
      line.classList.remove("pending");
    } catch (error) {
      line.classList.add("failed");
      line.title = error.message;
    }
  }

  show({ from, mid, content }) {
    if (typeof content?.text !== "string") return;
    const known = [...this.list.children].find((line) => line.dataset.mid === mid);
    if (known) known.classList.remove("pending");
    else this.add(mid, from, content.text);
  }

  add(mid, from, text) {
    const line = document.createElement("li");
    line.dataset.mid = mid;
    line.classList.toggle("own", from === this.me.user);
    line.classList.toggle("note", from === GAME);
    const who = document.createElement("b");
    who.textContent = nameOf(from);
    const said = document.createElement("span");
    said.textContent = text;
    line.append(...(from === GAME ? [said] : [who, said]));
    this.list.append(line);
    while (this.list.children.length > SHOWN) this.list.firstChild.remove();
    this.list.scrollTop = this.list.scrollHeight;
    return line;
  }
}

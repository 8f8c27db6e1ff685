// Subscribes to a room with npm's `eventsource`. Prints what it read.
//
// usage: node event_source.cjs URL TOKEN ROOM
"use strict";

const { EventSource } = require("eventsource");

const [base, token, room] = process.argv.slice(2);
if (!room) {
  console.error("usage: node event_source.cjs URL TOKEN ROOM");
  process.exit(2);
}
import("./subscribe.mjs")
  .then(({ subscribe }) => subscribe(EventSource, { base, token, room }))
  .then((told) => console.log(JSON.stringify(told)));

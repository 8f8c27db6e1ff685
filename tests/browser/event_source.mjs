// Subscribes to a room with Chromium's own `EventSource`, in a page of the server. Prints what it
// read. Started by tests/tests/foreign_http.rs, which sets these:
//
//   IM_TEST_CHROMIUM              the browser's binary
//   IM_TEST_NODE_MODULES_BROWSER  the folder that holds playwright-core
//
// usage: node event_source.mjs URL TOKEN ROOM

import { createRequire } from "node:module";
import { join } from "node:path";

const { IM_TEST_CHROMIUM: executablePath, IM_TEST_NODE_MODULES_BROWSER: modules } = process.env;
// Imported modules ignore NODE_PATH, so the package is required by its folder.
const { chromium } = createRequire(import.meta.url)(join(modules, "playwright-core"));

const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--disable-background-networking",
  "--disable-component-update",
];

const [base, token, room] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: FLAGS, headless: true });
try {
  const page = await browser.newPage();
  await page.goto(base);
  const told = await page.evaluate(async ({ token, room }) => {
    const { subscribe } = await import("/subscribe.mjs");
    return subscribe(EventSource, { base: location.origin, token, room });
  }, { token, room });
  console.log(JSON.stringify(told));
} finally {
  await browser.close();
}

// Plays the monster battle as two users, over all four transports at once. Started by
// tests/tests/battle.rs, which sets these:
//
//   IM_TEST_BATTLE                the server's binary
//   IM_TEST_CHROMIUM              the browser's binary
//   IM_TEST_NODE_MODULES_BROWSER  the folder that holds playwright-core
//   IM_TEST_SCREENSHOTS           the folder for screenshots

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const env = (name) => process.env[name] ?? assert.fail(`${name} is not set`);
// Imported modules ignore NODE_PATH, so the package is required by its folder.
const { chromium } = createRequire(import.meta.url)(join(env("IM_TEST_NODE_MODULES_BROWSER"), "playwright-core"));

const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
  "--disable-background-networking", "--disable-component-update",
];
const ALL = ["ws", "sse", "poll", "short"];
const ROUNDS = 6;
const mistakes = [];
const pages = [];

// ---- the server ---------------------------------------------------------------------------------

/** Starts the server on a free port, without any users but those of this test. */
async function startServer() {
  const server = spawn(env("IM_TEST_BATTLE"), ["--listen", "127.0.0.1:0", "--bots", "0", "--respawn-ms", "500"], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, NO_COLOR: "1", RUST_LOG: "info,warp::server=off" },
  });
  for await (const line of createInterface({ input: server.stdout })) {
    console.log(`  server: ${line}`);
    const url = line.match(/open (http:\S+)/)?.[1];
    if (url) {
      server.stdout.resume(); // nobody reads on, but it must not block
      return { server, url };
    }
  }
  return assert.fail("the server ended before it printed its address");
}

// ---- users --------------------------------------------------------------------------------------

async function person(browser, url, name, family, look = {}) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 900 }, colorScheme: "light", ...look });
  const page = await context.newPage();
  pages.push(page);
  page.on("pageerror", (error) => mistakes.push(`${name}: ${error}`));
  page.on("console", (message) => {
    if (/Content Security Policy|Failed to load/i.test(message.text())) mistakes.push(`${name}: ${message.text()}`);
  });
  await page.goto(url);
  await page.getByLabel("Your name").fill(name);
  await page.getByLabel(family).check();
  await page.getByRole("button", { name: "To arms" }).click();
  return { name, page };
}

const panel = ({ page }, transport) => page.locator(`.panel[data-transport="${transport}"]`);

/** Returns the content of each panel. */
function shown({ page }) {
  return page.locator(".panel").evaluateAll((panels) => panels.map((one) => ({
    transport: one.dataset.transport,
    state: one.querySelector(".state").dataset.is,
    applied: Number(one.dataset.applied),
    hp: Number(one.querySelector(".hp-left").textContent),
    shares: one.querySelector(".shares").getAttribute("aria-label"),
    requests: Number(one.querySelector(".requests b").textContent),
    bytes: one.querySelector(".bytes b").textContent,
    connections: parseInt(one.querySelector(".connections").textContent, 10),
    median: one.querySelector(".latency b").textContent,
    late: one.querySelector(".stale").textContent.match(/\d+/g)?.map(Number) ?? [0, 0],
  })));
}

const nextFrame = (page) => page.evaluate(() => new Promise(requestAnimationFrame));

/** Checks in every frame until the condition holds. */
async function until(what, look) {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) assert.fail(`never: ${what}`);
    await nextFrame(pages[0]);
  }
}

const same = (values) => new Set(values.map((value) => JSON.stringify(value))).size === 1;
const alike = (panels) => same(panels.map(({ applied, hp, shares }) => ({ applied, hp, shares })));

/** Waits until every panel of both has applied at least this much, and all are equal. */
function agree(people, atLeast) {
  return until("all panels agree", async () => {
    const all = (await Promise.all(people.map(shown))).flat();
    return alike(all) && all[0].applied >= atLeast && all;
  });
}

// ---- checks -------------------------------------------------------------------------------------

async function allFourAreOnline(ada) {
  await until("four panels are online", async () => (await shown(ada)).filter(({ state }) => state === "online").length === 4);
  assert.deepEqual((await shown(ada)).map(({ transport }) => transport), ALL);
}

/** A hit over each transport is seen on all of them. */
async function eachTransportStrikes(ada, bela) {
  for (const transport of ALL) {
    const [{ applied }] = await agree([ada, bela], 0);
    await panel(ada, transport).getByRole("button", { name: "Strike here" }).click();
    await agree([ada, bela], applied + 1);
  }
}

async function eachIsMeasured(ada) {
  for (let round = 0; round < ROUNDS; round++) {
    const [{ applied }] = await agree([ada], 0);
    await ada.page.getByRole("button", { name: "Strike", exact: true }).click();
    await agree([ada], applied + ALL.length);
  }
  // Counts are drawn once a second, so they are right once the last hits are included.
  const panels = await until("times and counts are shown", async () => {
    const all = await shown(ada);
    const [, sse, poll, short] = all.map(({ requests }) => requests);
    // Every hit over an event stream is a request; polling has more, for the downlink.
    const counted = sse > ROUNDS && poll > sse && short > sse;
    return counted && all.every(({ median }) => / m?s$/.test(median)) && all;
  });
  for (const one of panels) console.log(`  ${JSON.stringify(one)}`);
  const [ws] = panels;
  assert.equal(ws.requests, 1, "a WebSocket is one request");
  assert.equal(ws.connections, 1);
  for (const { connections, bytes } of panels) assert.ok(connections > 0 && /^[\d.]+ [kM]?B$/.test(bytes));
}

/** Late updates reach every panel, and each of them drops every one. */
async function lateUpdatesAreDropped(ada) {
  await ada.page.getByText("Delay updates").click();
  await ada.page.getByText("Keep striking").click();
  await until("late updates on every panel", async () => (await shown(ada)).every(({ late: [late] }) => late >= 4));
  // Hit points do not go back meanwhile, whatever arrives late.
  let last = 0;
  for (let look = 0; look < 20; look++) {
    const { applied } = (await shown(ada))[0];
    assert.ok(applied >= last, `hit points as of ${applied} after those of ${last}`);
    last = applied;
    await nextFrame(ada.page);
  }
  await ada.page.getByText("Keep striking").click();
  await until("all that was late is dropped", async () => (await shown(ada)).every(({ late: [late, dropped] }) => late === dropped));
  const drops = await ada.page.locator("#drops").textContent();
  console.log(`  ${drops}`);
  const [, , sent, refused] = drops.match(/\d+/g).map(Number);
  assert.ok(sent > 0 && sent === refused, "the engine refuses old stamps");
}

async function theFamilyTalks(bela, chidi) {
  await bela.page.getByLabel("Message").fill("Aim for the left eye, it <b>blinks</b>!");
  await bela.page.keyboard.press("Enter");
  await chidi.page.locator("#messages").getByText("Aim for the left eye, it <b>blinks</b>!").waitFor();
  assert.equal(await chidi.page.locator("#messages span b").count(), 0, "markup is text");
}

/** A page with one transport shows the same battle. */
async function oneTransportIsEnough(ada, bela) {
  await bela.page.getByLabel("Transport", { exact: true }).selectOption("sse");
  await until("one panel", async () => same([(await shown(bela)).map(({ transport, state }) => [transport, state]), [["sse", "online"]]]));
  const [{ applied }] = await agree([ada, bela], 1);
  await bela.page.getByRole("button", { name: "Strike", exact: true }).click();
  await agree([ada, bela], applied + 1);
}

async function aMonsterFalls(ada) {
  await ada.page.getByText("Keep striking").click();
  await ada.page.locator("#log").getByText("was slain by").first().waitFor({ timeout: 120_000 });
  await ada.page.getByText("Monster 2", { exact: true }).waitFor();
  await ada.page.getByText("Keep striking").click();
}

async function main() {
  const { server, url } = await startServer();
  const browser = await chromium.launch({ executablePath: env("IM_TEST_CHROMIUM"), args: FLAGS });
  const picture = ({ page }, name, fullPage = true) => page.screenshot({ path: join(env("IM_TEST_SCREENSHOTS"), name), fullPage });
  const step = async (what, act) => { console.log(`- ${what}`); await act(); };
  try {
    const ada = await person(browser, url, "Ada Lovelace", "foxes");
    await step("all four are online", () => allFourAreOnline(ada));
    const phone = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, colorScheme: "dark" };
    const bela = await person(browser, url, "Bela", "otters", phone);
    await step("each transport strikes", () => eachTransportStrikes(ada, bela));
    await step("each is measured", () => eachIsMeasured(ada));
    await step("late updates are dropped", () => lateUpdatesAreDropped(ada));
    await picture(ada, "monster-battle.png");
    await picture(bela, "monster-battle-phone.png");
    await step("one transport is enough", () => oneTransportIsEnough(ada, bela));
    const chidi = await person(browser, `${url}?transport=auto`, "Chidi", "otters");
    await step("the family talks", () => theFamilyTalks(bela, chidi));
    await step("a monster falls", () => aMonsterFalls(ada));
    await step("hit points agree everywhere at the end", async () => {
      for (const one of await agree([ada, bela, chidi], 1)) console.log(`  ${one.transport}: ${one.hp} at ${one.applied}`);
    });
    await picture(bela, "monster-battle-one.png");
    assert.deepEqual(mistakes, []);
  } finally {
    await browser.close();
    const gone = once(server, "exit");
    server.kill("SIGINT");
    const [code] = await gone;
    assert.equal(code, 0, "Ctrl-C stops it cleanly");
  }
}

await main();

// Drives the quickstart page as two users. Started by tests/tests/browser.rs, which sets these:
//
//   IM_TEST_QUICKSTART            the server's binary
//   IM_TEST_CHROMIUM              the browser's binary
//   IM_TEST_NODE_MODULES_BROWSER  the folder that holds playwright-core
//   IM_TEST_DATA                  an empty folder for the server
//   IM_TEST_SCREENSHOTS           the folder for screenshots

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";

const env = (name) => process.env[name] ?? assert.fail(`${name} is not set`);
// Imported modules ignore NODE_PATH, so the package is required by its folder.
const { chromium } = createRequire(import.meta.url)(join(env("IM_TEST_NODE_MODULES_BROWSER"), "playwright-core"));

const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
  "--disable-background-networking", "--disable-component-update",
];
const MORE_THAN_A_PAGE = 60;
const ATTACK = `<img src="x" onerror="document.title = 'broken in'">`;

// ---- the server ---------------------------------------------------------------------------------

async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  return port;
}

const port = await freePort();
let server;

async function startServer() {
  server = spawn(env("IM_TEST_QUICKSTART"), ["--listen", `127.0.0.1:${port}`, "--store", `sqlite:${env("IM_TEST_DATA")}/im.db`], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, NO_COLOR: "1" },
  });
  const lines = createInterface({ input: server.stdout });
  for await (const line of lines) {
    console.log(`  server: ${line}`);
    if (line.includes("open http://")) break;
  }
  assert.equal(server.exitCode, null, "the server ended before it printed its address");
  server.stdout.resume(); // nobody reads on, but it must not block
}

/** Ends the server: at once by SIGKILL, cleanly by SIGINT. Returns its exit code. */
async function endServer(signal) {
  const gone = once(server, "exit");
  server.kill(signal);
  const [code] = await gone;
  return code;
}

// ---- users --------------------------------------------------------------------------------------

const mistakes = [];

/** Opens the page for a user with a browser context of their own. */
async function person(browser, url, name, look = {}) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 760 }, colorScheme: "light", ...look });
  const page = await context.newPage();
  page.on("pageerror", (error) => mistakes.push(`${name}: ${error}`));
  page.on("console", (message) => {
    if (/Content Security Policy/i.test(message.text())) mistakes.push(`${name}: ${message.text()}`);
  });
  await page.goto(url);
  return { name, page };
}

async function comeIn({ page, name }, room) {
  await page.getByLabel("Your name").fill(name);
  await page.getByLabel("Room").fill(room);
  await page.getByRole("button", { name: "Start chatting" }).click();
  await isIn({ page }, "online");
}

function isIn({ page }, state) {
  return page.locator(`#state[data-is="${state}"]`).waitFor();
}

async function say({ page }, text) {
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.keyboard.press("Enter");
}

/** Waits until this text is in the log, confirmed. */
function sees({ page }, text) {
  return page.locator("#messages .text").getByText(text, { exact: true }).waitFor();
}

function texts({ page }) {
  return page.locator("#messages .text").allTextContents();
}

// ---- checks -------------------------------------------------------------------------------------

async function twoTalk(ada, bela) {
  await say(ada, "Hello! Is anybody here?");
  await sees(bela, "Hello! Is anybody here?");
  await say(bela, "Yes. The tomatoes are turning red, I counted eleven this morning.");
  await sees(ada, "Yes. The tomatoes are turning red, I counted eleven this morning.");
  assert.equal(await ada.page.locator("#messages .own .text").textContent(), "Hello! Is anybody here?");
  assert.equal(await ada.page.locator("#messages .other .who").textContent(), "Bela");
  assert.deepEqual(await ada.page.locator("#outbox li").count(), 0, "all messages are acknowledged");
}

async function typingIsShown(ada, bela) {
  await bela.page.getByLabel("Message", { exact: true }).pressSequentially("Shall");
  await ada.page.getByText("Bela is typing").waitFor();
  await say(bela, "Shall we pick them tomorrow?");
  await sees(ada, "Shall we pick them tomorrow?");
  assert.equal(await ada.page.locator("#typing").textContent(), "");
}

async function markupIsText(ada, bela) {
  await say(ada, ATTACK);
  await sees(bela, ATTACK);
  assert.equal(await bela.page.locator("#messages img").count(), 0);
  assert.equal(await bela.page.title(), "garden");
}

async function reloadFindsHistory(ada, bela) {
  const before = await texts(ada); // all of it is confirmed: each step waits for its last message
  await bela.page.reload();
  await isIn(bela, "online");
  await sees(bela, before.at(-1));
  assert.deepEqual(await texts(bela), before, "everything is there once and in order");
}

async function survivesRestart(ada, bela) {
  await endServer("SIGKILL");
  await isIn(ada, "waiting");
  await say(ada, "Written while the server was away.");
  await ada.page.locator("#outbox .pending").waitFor();
  await startServer();
  await sees(ada, "Written while the server was away.");
  await sees(bela, "Written while the server was away.");
  await say(bela, "And it came through.");
  await Promise.all([sees(ada, "And it came through."), sees(bela, "And it came through.")]);
  assert.deepEqual(await texts(bela), await texts(ada), "both see the same, each message once");
  await reloadFindsHistory(ada, bela);
}

/** A message without an ack when the page is reloaded is sent by the reloaded page. */
async function reloadKeepsTheOutbox(ada, bela) {
  assert.equal(await endServer("SIGINT"), 0, "Ctrl-C stops it cleanly");
  await isIn(ada, "waiting");
  await say(ada, "Written, and then reloaded.");
  await ada.page.locator("#outbox .pending").waitFor();
  const kept = await ada.page.evaluate(() => sessionStorage.getItem("im.outbox.Ada_Lovelace.garden"));
  assert.equal(JSON.parse(kept).length, 1);
  await startServer();
  await ada.page.reload();
  await sees(ada, "Written, and then reloaded.");
  await sees(bela, "Written, and then reloaded.");
  assert.deepEqual(await texts(bela), await texts(ada));
}

async function olderIsFetched(ada, bela) {
  for (let n = 1; n <= MORE_THAN_A_PAGE; n++) await say(ada, `Number ${n}`);
  await sees(bela, `Number ${MORE_THAN_A_PAGE}`);
  await bela.page.reload();
  await sees(bela, `Number ${MORE_THAN_A_PAGE}`);
  assert.equal(await bela.page.getByText("Hello! Is anybody here?").count(), 0, "only the newest page is there");
  await bela.page.locator("#scroller").evaluate((scroller) => { scroller.scrollTop = 0; });
  await sees(bela, "Hello! Is anybody here?");
  const numbers = (await texts(bela)).filter((text) => text.startsWith("Number "));
  assert.deepEqual(numbers, Array.from({ length: MORE_THAN_A_PAGE }, (_, n) => `Number ${n + 1}`));
}

/** On a line that redelivers every event and loses some, the page still shows each once. */
async function badLineIsMadeGood(ada, _, chidi) {
  await chidi.page.routeWebSocket(/\/ws$/, (line) => {
    line.connectToServer().onMessage((data) => {
      for (const frame of [JSON.parse(data)].flat()) {
        if (frame.t === "event" && frame.content.text?.startsWith("Swallowed")) continue;
        line.send(JSON.stringify(frame));
        if (frame.t === "event") line.send(JSON.stringify(frame));
      }
    });
  });
  await chidi.page.reload();
  await comeIn(chidi, "garden");
  for (const text of ["Heard 1", "Swallowed 1", "Heard 2", "Swallowed 2", "Swallowed 3", "Heard 3"]) await say(ada, text);
  await sees(chidi, "Heard 3");
  const last = (await texts(chidi)).slice(-6);
  assert.deepEqual(last, ["Heard 1", "Swallowed 1", "Heard 2", "Swallowed 2", "Swallowed 3", "Heard 3"]);
}

/**
 * A duplicated tab has the original's storage, and with it its session. Each must get a session of
 * its own.
 */
async function duplicatedTabsLiveSideBySide(ada, bela) {
  const held = await bela.page.evaluate(() => ({ ...sessionStorage }));
  const twin = { name: "Bela", page: await bela.page.context().newPage() };
  await twin.page.addInitScript((entries) => {
    if (sessionStorage.length === 0) for (const [key, value] of Object.entries(entries)) sessionStorage.setItem(key, value);
  }, held);
  await twin.page.goto(bela.page.url());
  await Promise.all([isIn(twin, "online"), isIn(bela, "online")]);
  await say(ada, "To both of you");
  await Promise.all([sees(twin, "To both of you"), sees(bela, "To both of you")]);
  await say(twin, "From one of us");
  await Promise.all([sees(ada, "From one of us"), sees(bela, "From one of us")]);
  const sessions = await Promise.all([twin, bela].map(({ page }) => page.evaluate(() => JSON.parse(sessionStorage["im.session"]).session)));
  assert.notEqual(sessions[0], sessions[1]);
  await twin.page.close();
}

async function leavingIsTold(ada, bela) {
  await ada.page.getByRole("button", { name: "Leave" }).click();
  await ada.page.getByRole("button", { name: "Start chatting" }).waitFor();
  await bela.page.getByText("Ada Lovelace left").waitFor();
}

async function main() {
  const url = `http://127.0.0.1:${port}/`;
  await startServer();
  const browser = await chromium.launch({ executablePath: env("IM_TEST_CHROMIUM"), args: FLAGS });
  let ada, bela, chidi;
  const picture = ({ page }, name) => page.screenshot({ path: join(env("IM_TEST_SCREENSHOTS"), name) });
  const step = async (what, act) => { console.log(`- ${what}`); await act(ada, bela, chidi); };
  try {
    ada = await person(browser, url, "Ada Lovelace");
    bela = await person(browser, `${url}#garden`, "Bela", {
      viewport: { width: 390, height: 780 }, deviceScaleFactor: 2, colorScheme: "dark",
    });
    chidi = await person(browser, url, "Chidi");
    assert.equal(await bela.page.getByLabel("Room").inputValue(), "garden", "a link brings its room along");
    await picture(ada, "quickstart-door.png");
    await comeIn(ada, "garden");
    await comeIn(bela, "garden");
    await step("two talk", twoTalk);
    await step("typing is shown", typingIsShown);
    await step("markup is text", markupIsText);
    await step("a reload finds the history", reloadFindsHistory);
    await picture(ada, "quickstart.png");
    await picture(bela, "quickstart-phone.png");
    await step("a restart loses nothing", survivesRestart);
    await step("a reload keeps what is on its way", reloadKeepsTheOutbox);
    await step("older messages are fetched", olderIsFetched);
    await step("a bad line is made good", badLineIsMadeGood);
    await step("duplicated tabs live side by side", duplicatedTabsLiveSideBySide);
    await step("names are shown as typed", async () => {
      const typed = "علی\u200cرضا 👩\u200d💻 ❤\ufe0f";
      const guest = await person(browser, url, typed);
      await comeIn(guest, "garden");
      assert.equal(await guest.page.locator("#me").textContent(), typed);
      await ada.page.getByText(`${typed} joined`).waitFor();
      await say(guest, "Salaam");
      await sees(ada, "Salaam");
      assert.equal(await ada.page.locator("#messages .other .who").last().textContent(), typed);
      await guest.page.close();
    });
    await step("leaving is told", leavingIsTold);
    assert.deepEqual(mistakes, []);
  } finally {
    await browser.close();
    server.kill("SIGKILL");
  }
}

await main();

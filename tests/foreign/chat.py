"""Two users talk, lose their connections and reconnect, by wire/SPEC.md alone.

usage: chat.py URL [--msgpack]        ends with 0 if everything was as the SPEC says
"""

import asyncio
import hashlib
import json
import secrets
import struct
import sys

import msgpack
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

PATIENCE = 20  # time limit of each wait, in seconds, so that a fault does not hang


class Refused(Exception):
    def __init__(self, frame):
        super().__init__(f"{frame['code']}: {frame['msg']}")
        self.code = frame["code"]


def check(fact, words):
    print(("  ok    " if fact else "  WRONG ") + words)
    if not fact:
        raise SystemExit(1)


async def soon(awaitable, what):
    try:
        return await asyncio.wait_for(awaitable, PATIENCE)
    except asyncio.TimeoutError:
        print(f"  WRONG timed out after {PATIENCE} s: {what}")
        raise SystemExit(1) from None


class Client:
    """One user on one device. Keeps cursors by the one rule, and what it has read."""

    def __init__(self, url, user, packed):
        self.url, self.user, self.packed = url, user, packed
        self.session = None
        self.cursors = {}  # room -> (epoch, seq)
        self.read = {}  # room -> events taken
        self.others = []  # pushes that are no events
        self.holes = 0
        self.news = asyncio.Condition()

    # ---- the connection ----

    async def open(self):
        protocol = "im.v1.msgpack" if self.packed else "im.v1.json"
        self.ws = await soon(connect(self.url, subprotocols=[protocol], max_size=4 << 20), "a connection")
        check(self.ws.subprotocol == protocol, f"{self.user} agreed on {protocol}")
        self.waiting, self.last, self.disconnect = {}, 0, None
        self.reader = asyncio.create_task(self.listen())

    async def connect(self):
        await self.open()
        hello = {"v": 1, "user": self.user, "device": "py", "client": "chat.py"}
        if self.session:
            hello |= self.session
        welcome = await self.ask("hello", **hello)
        self.session = {"session": welcome["session"], "secret": welcome["secret"]}
        return welcome

    async def listen(self):
        try:
            async for message in self.ws:
                if isinstance(message, str) == self.packed:
                    raise TypeError("a message of the other type")
                frames = msgpack.unpackb(message) if self.packed else json.loads(message)
                for frame in frames if isinstance(frames, list) else [frames]:
                    self.take(frame)
                async with self.news:
                    self.news.notify_all()
        except ConnectionClosed:
            pass
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(ConnectionError("the connection ended"))
        async with self.news:
            self.news.notify_all()

    def take(self, frame):
        kind = frame["t"]
        if kind in ("ok", "err"):
            for status in frame.get("rooms", []):
                self.take_status(status)
            future = self.waiting.pop(frame.get("id"), None)
            if future and not future.done():
                future.set_result(frame)
        elif kind == "event":
            self.take_event(frame)
        elif kind == "room":
            self.take_status(frame)
        elif kind == "disconnect":
            self.disconnect = frame
        else:
            self.others.append(frame)

    def take_status(self, status):
        if status["status"] == "denied":
            self.cursors.pop(status["room"], None)
        else:
            self.cursors[status["room"]] = (status["epoch"], status["cursor"])

    def take_event(self, event):
        epoch, seq = self.cursors.get(event["room"], (None, 0))
        if event["epoch"] != epoch or event["seq"] <= seq:
            return
        if event["seq"] > seq + 1:
            self.holes += 1
            return
        self.cursors[event["room"]] = (epoch, event["seq"])
        self.read.setdefault(event["room"], []).append({k: v for k, v in event.items() if k != "t"})

    # ---- commands ----

    def begin(self, kind, /, **fields):
        self.last += 1
        self.waiting[self.last] = asyncio.get_running_loop().create_future()
        return {"t": kind, "id": self.last, **fields}, self.waiting[self.last]

    async def post(self, frames):
        await self.ws.send(msgpack.packb(frames) if self.packed else json.dumps(frames))

    async def ask(self, kind, /, **fields):
        frame, reply = self.begin(kind, **fields)
        await self.post(frame)
        reply = await soon(reply, f"the reply to {kind}")
        if reply["t"] == "err":
            raise Refused(reply)
        return reply

    async def refused(self, kind, /, **fields):
        try:
            await self.ask(kind, **fields)
        except Refused as refusal:
            return refusal.code
        return 0

    async def until(self, fact, what):
        async with self.news:
            await soon(self.news.wait_for(fact), what)

    def texts(self, room):
        return [e["content"]["text"] for e in self.read.get(room, []) if e["kind"] == "message"]

    async def cut(self):
        """Cuts the network: no closing handshake."""
        self.ws.transport.abort()
        await soon(self.reader, "the end of a cut connection")


def message(room, text):
    return {"room": room, "mid": secrets.token_hex(16), "content": {"text": text}}


async def talk(alice, bob, room):
    print("# two users talk in a group")
    welcome = await alice.connect()
    check(welcome["resumed"] is False and welcome["user"] == alice.user, "alice has a new session")
    await bob.connect()
    made = await alice.ask("create", room=room, kind="group", members=[bob.user])
    check(made["seq"] == 1 and not made["duplicate"], "the room's first event contains its members")
    told = lambda: [p for p in bob.others if p["t"] == "signal" and p["kind"] == "im.room"]
    await bob.until(told, "word of the room")
    check((told()[0]["to"], told()[0]["content"]) == (bob.user, {"room": room}), "bob is notified of his membership")
    status = (await alice.ask("subscribe", room=room))["rooms"][0]
    check((status["status"], status["cursor"]) == ("ok", 1), "alice subscribes from the head")
    status = (await bob.ask("subscribe", room=room, epoch=made["epoch"], since=0))["rooms"][0]
    check((status["status"], status["cursor"], status["head"]) == ("ok", 0, 1), "bob subscribes from the start of the log")
    await bob.until(lambda: bob.read.get(room), "the members event")
    check(bob.read[room][0]["kind"] == "im.members", "bob reads the members of the room")

    # Many in flight at once, several to a message.
    replies = []
    for turn in range(5):
        for user in (alice, bob):
            pairs = [user.begin("send", **message(room, f"{user.user} {turn}.{n}")) for n in range(2)]
            await user.post([frame for frame, _ in pairs])
            replies += [reply for _, reply in pairs]
    receipts = [await soon(reply, "an ack") for reply in replies]
    check(all(r["t"] == "ok" for r in receipts), "20 sends in batches of two are acknowledged")
    check(sorted(r["seq"] for r in receipts) == list(range(2, 22)), "their seqs are 2 to 21, each once")
    for user in (alice, bob):
        await user.until(lambda user=user: len(user.texts(room)) == 20, "20 events")
    check(alice.texts(room) == bob.texts(room), "both read the same in the same order")
    own = [text for text in bob.texts(room) if text.startswith(alice.user)]
    check(own == [f"{alice.user} {turn}.{n}" for turn in range(5) for n in range(2)], "each sender's order is kept")


async def once(alice, room):
    print("# a retry is one event")
    said = message(room, "only once")
    first = await alice.ask("send", **said)
    again = await alice.ask("send", **said)
    check(again["duplicate"] and not first["duplicate"], "the second is a duplicate")
    check((again["seq"], again["at"]) == (first["seq"], first["at"]), "and has the first one's seq and time")
    code = await alice.refused("send", **{**said, "content": {"text": "something else"}})
    check(code == 4524, "another content under the same id is a conflict")


async def live(alice, bob, room):
    print("# signals and state")
    await alice.ask("signal", room=room, kind="typing", content=True)
    typing = lambda: [p for p in bob.others if p["t"] == "signal" and p["kind"] == "typing"]
    await bob.until(typing, "a signal")
    check((typing()[0]["room"], typing()[0]["from"]) == (room, alice.user), "a signal contains its room and sender")
    check(typing()[0]["content"] is True, "bob sees that alice is typing")
    stamps = [(await alice.ask("put_state", room=room, key="kettle", value={"heat": n + 0.5}))["stamp"] for n in range(3)]
    ordered = [tuple(map(int, stamp.split("-"))) for stamp in stamps]
    check(ordered == sorted(set(ordered)), "stamps of state grow")
    newest = lambda: [p for p in bob.others if p["t"] == "state" and p["stamp"] == stamps[-1]]
    await bob.until(newest, "the newest value")
    check(newest()[0]["value"] == {"heat": 2.5}, "bob has the newest value")


async def pages(alice, room):
    print("# history")
    head, forwards, after = alice.cursors[room][1], [], 0
    while True:
        page = await alice.ask("history", room=room, after=after, limit=7)
        forwards += page["events"]
        if not page["more"]:
            break
        after = page["events"][-1]["seq"]
    check([e["seq"] for e in forwards] == list(range(1, head + 1)), f"pages forwards hold 1 to {head}")
    backwards, before = [], head + 1
    while before > 1:
        page = await alice.ask("history", room=room, before=before, limit=6)
        backwards += page["events"]
        before = page["events"][-1]["seq"]
    check(backwards == forwards[::-1], "pages backwards hold the same")
    check(forwards[1:] == alice.read[room], "and so did the pushes")


async def come_back(alice, bob, room):
    print("# a connection is cut, and nothing is lost or duplicated")
    unanswered = message(room, "sent into the dark")
    frame, _ = bob.begin("send", **unanswered)
    await bob.post(frame)
    await bob.cut()
    for n in range(3):
        await alice.ask("send", **message(room, f"while bob is away {n}"))
    epoch, seq = bob.cursors[room]
    welcome = await bob.connect()
    check(welcome["resumed"], "bob's session is resumed")
    status = (await bob.ask("resume", cursors=[[room, epoch, seq]]))["rooms"][0]
    check((status["status"], status["cursor"]) == ("ok", seq), "the room is resumed from bob's cursor")
    await bob.ask("send", **unanswered)
    for user in (alice, bob):
        await user.until(lambda user=user: "sent into the dark" in user.texts(room), "what was sent into the dark")
        last = (await user.ask("history", room=room, limit=1))["head"]
        await user.until(lambda user=user: user.cursors[room][1] >= last, "the last event")
    check(bob.texts(room).count("sent into the dark") == 1, "the retried message is stored once")
    check(alice.texts(room) == bob.texts(room), "both have read the same")
    seqs = [e["seq"] for e in bob.read[room]]
    check(seqs == list(range(1, len(seqs) + 1)), f"bob has read 1 to {len(seqs)}, each once")


async def from_checkpoint(bob, room):
    print("# resuming by a checkpoint")
    epoch, seq = bob.cursors[room]
    rev = (await bob.ask("checkpoint", cursors=[[room, epoch, seq]]))["rev"]
    await bob.cut()
    welcome = await bob.connect()
    check(welcome["rev"] == rev, "the server holds the checkpoint")
    resumed = await bob.ask("resume", rev=rev)
    status = resumed["rooms"][0]
    check((status["room"], status["status"], status["cursor"]) == (room, "ok", seq), "it contains the room and the cursor")
    await bob.cut()
    await bob.connect()
    check(await bob.refused("resume", rev=rev) == 4401, "an old revision is refused")
    status = (await bob.ask("resume", cursors=[[room, epoch, seq]]))["rooms"][0]
    check(status["status"] == "ok", "and all cursors work without it")


async def faults(alice, bob, room):
    print("# invalid input is refused, or ends the connection")
    check(await alice.refused("dance") == 4502, "an unknown command is refused")
    check(await alice.refused("history", room=room, limit=0) == 4504, "so is a bad field")
    check(await alice.refused("send", room=room, content=1) == 4503, "and a missing one")
    check(await alice.refused("subscribe", room="no-such-room") == 4520, "and a room that does not exist")
    check("now" in await alice.ask("ping"), "and the connection stays open")
    await alice.ws.send(b"\xc1" if alice.packed else "{broken")
    await soon(alice.reader, "the end of the connection")
    check(alice.disconnect and alice.disconnect["code"] == 4500, "an invalid frame is answered by disconnect 4500")
    check(alice.ws.close_code == 4500, "and closes with 4500")
    await bob.ask("logout")
    await soon(bob.reader, "the end of the connection")
    check(bob.ws.close_code == 4601, "logout closes with 4601")
    try:
        await bob.connect()
        code = 0
    except Refused as refusal:
        code = refusal.code
    check(code == 4400, "a logged out session is unknown")


def direct_room(a, b):
    users = sorted(user.encode() for user in (a, b))
    digest = hashlib.sha256(b"".join(struct.pack(">I", len(user)) + user for user in users))
    return "dm:" + digest.hexdigest()[:40]


async def direct(alice, bob):
    print("# a direct room")
    said = {"mid": secrets.token_hex(16), "content": {"bytes": "or so"}}
    receipt = await alice.ask("send", peer=bob.user, **said)
    room = direct_room(alice.user, bob.user)
    check((receipt["room"], receipt["seq"]) == (room, 1), "the first send creates the room, under the id of the formula")
    page = await bob.ask("history", room=room, after=0)
    check([e["content"] for e in page["events"]] == [said["content"]], "and the other user reads the message")
    rooms = (await bob.ask("rooms", limit=200))["list"]
    check({"room": room, "kind": "direct", "role": "member"} in rooms, "and in the list of rooms")


async def manners(url, packed, tag):
    print("# hello comes first, and once")
    carol = Client(url, f"carol-{tag}", packed)
    await carol.open()
    check(await carol.refused("ping") == 4509, "another command first is refused")
    await soon(carol.reader, "the end of the connection")
    check(carol.ws.close_code == 4509, "and closes with 4509")
    await carol.open()
    check(await carol.refused("hello", v=99) == 4505, "another version is refused")
    await soon(carol.reader, "the end of the connection")
    check(carol.ws.close_code == 4505, "and closes with 4505")
    await carol.connect()
    check(await carol.refused("hello", v=1) == 4509, "a second hello is refused")
    check("now" in await carol.ask("ping"), "and the connection stays open")
    older, reader = carol.ws, carol.reader
    await carol.connect()
    await soon(reader, "the end of the older connection")
    check(older.close_code == 4101, "a newer connection of the session replaces the older one")
    await carol.ws.send("text" if packed else b"bytes")
    await soon(carol.reader, "the end of the connection")
    check(carol.ws.close_code == 4501, "a message of the other type closes with 4501")
    try:
        await connect(url, subprotocols=["soap"])
        status = 101
    except InvalidStatus as refusal:
        status = refusal.response.status_code
    check(status == 400, "unknown subprotocols are refused with HTTP 400")


async def main(url, packed):
    tag = secrets.token_hex(4)
    alice, bob = (Client(url, f"{name}-{tag}", packed) for name in ("alice", "bob"))
    room = f"tea-{tag}"
    await talk(alice, bob, room)
    await once(alice, room)
    await live(alice, bob, room)
    await pages(alice, room)
    await come_back(alice, bob, room)
    await from_checkpoint(bob, room)
    await direct(alice, bob)
    await faults(alice, bob, room)
    await manners(url, packed, tag)
    check(alice.holes + bob.holes == 0, "no push left a gap")
    await bob.ws.close()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], "--msgpack" in sys.argv[2:]))

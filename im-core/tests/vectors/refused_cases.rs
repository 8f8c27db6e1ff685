//! Messages at the limits and beyond them, and frames with something wrong.

use im_core::wire::Encoding;

use crate::refused::Refused;

fn close(name: &str, encoding: Encoding, code: u16) -> Refused {
    let encoding = if encoding == Encoding::Json { "json" } else { "msgpack" };
    let (name, encoding, answer) = (name.into(), encoding.into(), "close".into());
    Refused { name, encoding, text: None, hex: None, pieces: None, code, answer, id: None }
}

fn text(name: &str, code: u16, text: &str) -> Refused {
    Refused { text: Some(text.into()), ..close(name, Encoding::Json, code) }
}

fn packed(name: &str, code: u16, hex: &str) -> Refused {
    Refused { hex: Some(hex.replace(' ', "")), ..close(name, Encoding::MsgPack, code) }
}

fn pieces(name: &str, encoding: Encoding, code: u16, pieces: &[(&str, usize)]) -> Refused {
    let pieces = pieces.iter().map(|(piece, times)| ((*piece).to_owned(), *times)).collect();
    Refused { pieces: Some(pieces), ..close(name, encoding, code) }
}

fn err(name: &str, code: u16, frame: &str) -> Refused {
    Refused { answer: "err".into(), id: Some(7), ..text(name, code, frame) }
}

fn err_without_id(name: &str, code: u16, frame: &str) -> Refused {
    Refused { id: None, ..err(name, code, frame) }
}

pub(crate) fn broken_json() -> Vec<Refused> {
    let bytes = |name: &str, hex: &str| Refused {
        hex: Some(hex.into()),
        ..close(name, Encoding::Json, 4500)
    };
    vec![
        text("nothing", 4500, ""),
        text("white space", 4500, " \n"),
        text("no JSON", 4500, "hello"),
        text("cut short", 4500, r#"{"t":"ping","id":7"#),
        text("cut short in a text", 4500, r#"{"t":"pi"#),
        text("something follows", 4500, r#"{"t":"ping","id":7} {"t":"ping","id":8}"#),
        text("comma at the end", 4500, r#"{"t":"ping","id":7,}"#),
        text("single quotes", 4500, "{'t':'ping','id':7}"),
        text("comment", 4500, r#"{"t":"ping",/* no */"id":7}"#),
        text("byte order mark", 4500, "\u{feff}{\"t\":\"ping\",\"id\":7}"),
        text("not a number", 4500, r#"{"t":"ping","id":NaN}"#),
        text("infinite", 4500, r#"{"t":"ping","id":7,"x":Infinity}"#),
        text("too large for a double", 4500, r#"{"t":"ping","id":7,"x":1e400}"#),
        text("zeros before a number", 4500, r#"{"t":"ping","id":007}"#),
        text("plus before a number", 4500, r#"{"t":"ping","id":+7}"#),
        text("2^53", 4500, r#"{"t":"ping","id":9007199254740992}"#),
        text("-2^53", 4500, r#"{"t":"ping","id":7,"x":-9007199254740992}"#),
        text("2^64", 4500, r#"{"t":"ping","id":7,"x":18446744073709551616}"#),
        text("-2^63 - 1", 4500, r#"{"t":"ping","id":7,"x":-9223372036854775809}"#),
        text(
            "an integer of 40 digits",
            4500,
            r#"{"t":"ping","id":7,"x":1000000000000000000000000000000000000000}"#,
        ),
        text("a key twice", 4500, r#"{"t":"ping","id":7,"id":8}"#),
        text("a key twice, once escaped", 4500, r#"{"t":"ping","id":7,"\u0069d":7}"#),
        text(
            "a key twice, deep within",
            4500,
            r#"{"t":"ping","id":7,"x":[{"a":[{"b":1,"b":1}]}]}"#,
        ),
        text("half a surrogate pair", 4500, r#"{"t":"ping","id":7,"x":"\ud83d"}"#),
        text("a control character in a text", 4500, "{\"t\":\"ping\",\"id\":7,\"x\":\"\u{1}\"}"),
        bytes("invalid UTF-8", "7b2274223a22ff227d"),
        bytes("UTF-8 of a surrogate", "7b2274223a22eda080227d"),
        bytes("overlong UTF-8", "7b2274223a22c080227d"),
        bytes("MessagePack sent as JSON", "82a174a470696e67a2696407"),
        text("no base64", 4500, r#"{"t":"ping","id":7,"x":{"$bytes":"!!!!"}}"#),
        text("base64 without padding", 4500, r#"{"t":"ping","id":7,"x":{"$bytes":"AA"}}"#),
        text("base64 of another alphabet", 4500, r#"{"t":"ping","id":7,"x":{"$bytes":"_-8="}}"#),
        text("base64 with white space", 4500, r#"{"t":"ping","id":7,"x":{"$bytes":"AA AA"}}"#),
        text("base64 with bits left over", 4500, r#"{"t":"ping","id":7,"x":{"$bytes":"AB=="}}"#),
        text("$bytes of a number", 4500, r#"{"t":"ping","id":7,"x":{"$bytes":5}}"#),
        text("$bytes of null", 4500, r#"{"t":"ping","id":7,"x":{"$bytes":null}}"#),
        text("$bytes of bytes", 4500, r#"{"t":"ping","id":7,"x":{"$bytes":{"$bytes":"AA=="}}}"#),
        text(
            "$bytes before another member",
            4500,
            r#"{"t":"ping","id":7,"x":{"$bytes":"AA==","a":1}}"#,
        ),
        text(
            "$bytes after another member",
            4500,
            r#"{"t":"ping","id":7,"x":{"a":1,"$bytes":"AA=="}}"#,
        ),
        text("$bytes twice", 4500, r#"{"t":"ping","id":7,"x":{"$bytes":"","$bytes":""}}"#),
        text("a lone $ before a key", 4500, r#"{"t":"ping","id":7,"x":{"$price":5}}"#),
        text("a key of a lone $", 4500, r#"{"t":"ping","id":7,"x":{"$":5}}"#),
        text("a number instead of a frame", 4500, "7"),
        text("null instead of a frame", 4500, "null"),
        text("bytes instead of a frame", 4500, r#"{"$bytes":"AA=="}"#),
        text("an empty batch", 4500, "[]"),
        text("a batch with something else in it", 4500, r#"[{"t":"ping","id":7},5]"#),
        text("a batch in a batch", 4500, r#"[[{"t":"ping","id":7}]]"#),
    ]
}

pub(crate) fn broken_msgpack() -> Vec<Refused> {
    vec![
        packed("nothing", 4500, ""),
        packed("the byte that is never used", 4500, "82 a174 a470696e67 a26964 c1"),
        packed("cut short in a map", 4500, "82 a174 a470696e67"),
        packed("cut short in a text", 4500, "82 a174 a47069"),
        packed("cut short in a number", 4500, "82 a174 a470696e67 a26964 cd00"),
        packed("cut short in a length", 4500, "82 a174 da00"),
        packed("something follows", 4500, "82 a174 a470696e67 a26964 07 c0"),
        packed("a text that claims 4 GiB", 4500, "82 a174 dbffffffff 70696e67"),
        packed("bytes that claim 4 GiB", 4500, "82 a174 c6ffffffff 70696e67"),
        packed("an extension that claims 4 GiB", 4500, "82 a174 c9ffffffff01 70696e67"),
        packed("a list that claims 2^32 - 1 values", 4508, "ddffffffff"),
        packed("a map that claims 2^32 - 1 entries", 4508, "dfffffffff"),
        packed(
            "a list that claims more than there is",
            4500,
            "83 a174 a470696e67 a26964 07 a178 9f01",
        ),
        packed("an extension", 4500, "83 a174 a470696e67 a26964 07 a178 d40100"),
        packed(
            "an extension of 16 bytes",
            4500,
            "83 a174 a470696e67 a26964 07 a178 d80100000000000000000000000000000000",
        ),
        packed("a timestamp", 4500, "83 a174 a470696e67 a26964 07 a178 d6ff00000000"),
        packed("an extension of any length", 4500, "83 a174 a470696e67 a26964 07 a178 c7020100ff"),
        packed("not a number", 4500, "83 a174 a470696e67 a26964 07 a178 cb7ff8000000000000"),
        packed("infinite", 4500, "83 a174 a470696e67 a26964 07 a178 cbfff0000000000000"),
        packed("infinite, short", 4500, "83 a174 a470696e67 a26964 07 a178 ca7f800000"),
        packed("2^53", 4500, "82 a174 a470696e67 a26964 cf0020000000000000"),
        packed("-2^53", 4500, "83 a174 a470696e67 a26964 07 a178 d3ffe0000000000000"),
        packed("2^64 - 1", 4500, "83 a174 a470696e67 a26964 07 a178 cfffffffffffffffff"),
        packed("-2^63", 4500, "83 a174 a470696e67 a26964 07 a178 d38000000000000000"),
        packed("a key twice", 4500, "83 a174 a470696e67 a26964 07 a26964 08"),
        packed(
            "a key twice, once with a wider length",
            4500,
            "83 a174 a470696e67 a26964 07 d9026964 07",
        ),
        packed("a key that is a number", 4500, "83 a174 a470696e67 a26964 07 01 02"),
        packed("a key that is bytes", 4500, "82 c40174 a470696e67 a26964 07"),
        packed("a key that is nil", 4500, "83 a174 a470696e67 a26964 07 c0 02"),
        packed("a key that is a list", 4500, "83 a174 a470696e67 a26964 07 90 02"),
        packed("invalid UTF-8", 4500, "83 a174 a470696e67 a26964 07 a178 a2ff61"),
        packed("invalid UTF-8 in a key", 4500, "83 a174 a470696e67 a26964 07 a1ff 02"),
        packed("UTF-8 of a surrogate", 4500, "83 a174 a470696e67 a26964 07 a178 a3eda080"),
        packed("JSON sent as MessagePack", 4500, "7b2274223a2270696e67222c226964223a377d"),
        packed("a number instead of a frame", 4500, "07"),
        packed("an empty batch", 4500, "90"),
        packed("a batch with something else in it", 4500, "92 82a174a470696e67a2696407 05"),
    ]
}

pub(crate) fn too_much() -> Vec<Refused> {
    use Encoding::{Json, MsgPack};
    vec![
        pieces(
            "a message too large",
            Json,
            4506,
            &[(r#"{"t":"ping","id":7,"x":""#, 1), ("a", 65_511), ("\"}", 1)],
        ),
        pieces(
            "a message too large",
            MsgPack,
            4506,
            &[("83a174a470696e67a2696407a178dafff0", 1), ("61", 65_520)],
        ),
        pieces(
            "nested too deeply",
            Json,
            4507,
            &[(r#"{"t":"ping","id":7,"x":"#, 1), ("[", 21), ("]", 21), ("}", 1)],
        ),
        pieces("nested too deeply and never closed", Json, 4507, &[("[", 60_000)]),
        pieces(
            "nested too deeply",
            MsgPack,
            4507,
            &[("83a174a470696e67a2696407a178", 1), ("91", 20), ("90", 1)],
        ),
        pieces("nested too deeply and never closed", MsgPack, 4507, &[("91", 60_000)]),
        pieces("maps nested too deeply", MsgPack, 4507, &[("81a161", 22), ("c0", 1)]),
        pieces(
            "too many values",
            Json,
            4508,
            &[(r#"{"t":"ping","id":7,"x":["#, 1), ("0,", 8188), ("0]}", 1)],
        ),
        pieces(
            "too many values",
            MsgPack,
            4508,
            &[("83a174a470696e67a2696407a178dc1ffd", 1), ("00", 8189)],
        ),
        pieces(
            "too many frames",
            Json,
            4508,
            &[("[", 1), (r#"{"t":"ping","id":7},"#, 64), (r#"{"t":"ping","id":7}]"#, 1)],
        ),
        pieces(
            "too many frames",
            MsgPack,
            4508,
            &[("dc0041", 1), ("82a174a470696e67a2696407", 65)],
        ),
    ]
}

pub(crate) fn at_the_limit() -> Vec<Refused> {
    use Encoding::{Json, MsgPack};
    let mut taken = vec![
        pieces(
            "largest",
            Json,
            0,
            &[(r#"{"t":"ping","id":7,"x":""#, 1), ("a", 65_510), ("\"}", 1)],
        ),
        pieces("largest", MsgPack, 0, &[("83a174a470696e67a2696407a178daffef", 1), ("61", 65_519)]),
        pieces(
            "deepest",
            Json,
            0,
            &[(r#"{"t":"ping","id":7,"x":"#, 1), ("[", 20), ("]", 20), ("}", 1)],
        ),
        pieces(
            "deepest",
            MsgPack,
            0,
            &[("83a174a470696e67a2696407a178", 1), ("91", 19), ("90", 1)],
        ),
        pieces(
            "most values",
            Json,
            0,
            &[(r#"{"t":"ping","id":7,"x":["#, 1), ("0,", 8187), ("0]}", 1)],
        ),
        pieces(
            "most values",
            MsgPack,
            0,
            &[("83a174a470696e67a2696407a178dc1ffc", 1), ("00", 8188)],
        ),
        pieces(
            "most frames",
            Json,
            0,
            &[("[", 1), (r#"{"t":"ping","id":7},"#, 63), (r#"{"t":"ping","id":7}]"#, 1)],
        ),
        pieces("most frames", MsgPack, 0, &[("dc0040", 1), ("82a174a470696e67a2696407", 64)]),
        text("the largest integer", 0, r#"{"t":"ping","id":9007199254740991}"#),
        text("the largest float", 0, r#"{"t":"ping","id":7,"x":-1.7976931348623157e308}"#),
        text("a float beyond the integers", 0, r#"{"t":"ping","id":7,"x":9007199254740992.0}"#),
    ];
    taken.iter_mut().for_each(|taken| taken.answer = "ok".into());
    taken
}

pub(crate) fn wrong_frames() -> Vec<Refused> {
    vec![
        err_without_id("no id", 4503, r#"{"t":"ping"}"#),
        err_without_id("id is null", 4503, r#"{"t":"ping","id":null}"#),
        err_without_id("id is text", 4504, r#"{"t":"ping","id":"7"}"#),
        err_without_id("id is negative", 4504, r#"{"t":"ping","id":-1}"#),
        err_without_id("id is a fraction", 4504, r#"{"t":"ping","id":7.5}"#),
        err_without_id("nothing at all", 4503, "{}"),
        err("no kind", 4503, r#"{"id":7}"#),
        err("kind is a number", 4504, r#"{"id":7,"t":5}"#),
        err("unknown kind", 4502, r#"{"id":7,"t":"dance"}"#),
        err("a kind that only servers send", 4502, r#"{"id":7,"t":"event"}"#),
        err("a kind in capitals", 4502, r#"{"id":7,"t":"PING"}"#),
        err("hello without a version", 4503, r#"{"t":"hello","id":7}"#),
        err("hello with a version in text", 4504, r#"{"t":"hello","id":7,"v":"1"}"#),
        err("a session without its secret", 4503, r#"{"t":"hello","id":7,"v":1,"session":"s"}"#),
        err("a secret without its session", 4503, r#"{"t":"hello","id":7,"v":1,"secret":"s"}"#),
        err("an empty token", 4504, r#"{"t":"hello","id":7,"v":1,"token":""}"#),
        err("an empty user id", 4504, r#"{"t":"hello","id":7,"v":1,"user":""}"#),
        err("a device id with a space", 4504, r#"{"t":"hello","id":7,"v":1,"device":"my phone"}"#),
        err("refresh without a token", 4503, r#"{"t":"refresh","id":7}"#),
        err("no room", 4503, r#"{"t":"join","id":7}"#),
        err("room is null", 4503, r#"{"t":"join","id":7,"room":null}"#),
        err("room is a number", 4504, r#"{"t":"join","id":7,"room":5}"#),
        err("room is bytes", 4504, r#"{"t":"join","id":7,"room":{"$bytes":"dGVh"}}"#),
        err("an empty room id", 4504, r#"{"t":"join","id":7,"room":""}"#),
        err(
            "an unknown kind of room",
            4504,
            r#"{"t":"create","id":7,"room":"tea","kind":"party"}"#,
        ),
        err("open is a number", 4504, r#"{"t":"create","id":7,"room":"tea","open":1}"#),
        err("members are no list", 4504, r#"{"t":"create","id":7,"room":"tea","members":"bob"}"#),
        err(
            "a member is no text",
            4504,
            r#"{"t":"create","id":7,"room":"tea","members":["bob",5]}"#,
        ),
        err("no act", 4503, r#"{"t":"member","id":7,"room":"tea","user":"bob"}"#),
        err(
            "an unknown act",
            4504,
            r#"{"t":"member","id":7,"room":"tea","user":"bob","act":"hug"}"#,
        ),
        err(
            "an unknown role",
            4504,
            r#"{"t":"member","id":7,"room":"tea","user":"bob","act":"add","role":"king"}"#,
        ),
        err("limit 0", 4504, r#"{"t":"history","id":7,"room":"tea","limit":0}"#),
        err("limit negative", 4504, r#"{"t":"history","id":7,"room":"tea","limit":-1}"#),
        err(
            "limit beyond 2^32 - 1",
            4504,
            r#"{"t":"history","id":7,"room":"tea","limit":4294967296}"#,
        ),
        err("limit in text", 4504, r#"{"t":"members","id":7,"room":"tea","limit":"5"}"#),
        err("limit with a fraction", 4504, r#"{"t":"rooms","id":7,"limit":0.5}"#),
        err(
            "before and after",
            4504,
            r#"{"t":"history","id":7,"room":"tea","before":5,"after":1}"#,
        ),
        err("after is negative", 4504, r#"{"t":"history","id":7,"room":"tea","after":-1}"#),
        err("since without an epoch", 4503, r#"{"t":"subscribe","id":7,"room":"tea","since":4}"#),
        err(
            "an epoch without since",
            4503,
            r#"{"t":"subscribe","id":7,"room":"tea","epoch":"1f.2"}"#,
        ),
        err(
            "an epoch in another form",
            4504,
            r#"{"t":"subscribe","id":7,"room":"tea","epoch":"1F.2","since":4}"#,
        ),
        err("cursors are no list", 4504, r#"{"t":"resume","id":7,"cursors":{"tea":4}}"#),
        err("a cursor is no list", 4504, r#"{"t":"resume","id":7,"cursors":["tea"]}"#),
        err("a cursor of two", 4504, r#"{"t":"resume","id":7,"cursors":[["tea","1f.2"]]}"#),
        err("a cursor of four", 4504, r#"{"t":"resume","id":7,"cursors":[["tea","1f.2",4,5]]}"#),
        err(
            "a cursor with a bad seq",
            4504,
            r#"{"t":"checkpoint","id":7,"cursors":[["tea","1f.2",-4]]}"#,
        ),
        err(
            "a cursor with a bad room",
            4504,
            r#"{"t":"checkpoint","id":7,"cursors":[["","1f.2",4]]}"#,
        ),
        err("rev is negative", 4504, r#"{"t":"resume","id":7,"rev":-1}"#),
        err(
            "a send to nobody",
            4503,
            r#"{"t":"send","id":7,"mid":"0123456789abcdef","content":1}"#,
        ),
        err(
            "a send to two",
            4504,
            r#"{"t":"send","id":7,"room":"tea","peer":"bob","mid":"0123456789abcdef","content":1}"#,
        ),
        err("a send without a message id", 4503, r#"{"t":"send","id":7,"room":"tea","content":1}"#),
        err(
            "a send without content",
            4503,
            r#"{"t":"send","id":7,"room":"tea","mid":"0123456789abcdef"}"#,
        ),
        err(
            "a message id too short",
            4504,
            r#"{"t":"send","id":7,"room":"tea","mid":"0123456789abcde","content":1}"#,
        ),
        err("a signal without content", 4503, r#"{"t":"signal","id":7,"room":"tea"}"#),
        err(
            "an event kind with a space",
            4504,
            r#"{"t":"signal","id":7,"room":"tea","kind":"a b","content":1}"#,
        ),
        err("no key", 4503, r#"{"t":"put_state","id":7,"room":"tea","value":1}"#),
        err("no value", 4503, r#"{"t":"put_state","id":7,"room":"tea","key":"k"}"#),
        err(
            "a stamp in another form",
            4504,
            r#"{"t":"put_state","id":7,"room":"tea","key":"k","value":1,"stamp":"01-2-3"}"#,
        ),
        err(
            "a stamp that is a number",
            4504,
            r#"{"t":"remove_state","id":7,"room":"tea","key":"k","stamp":5}"#,
        ),
        err("no session", 4503, r#"{"t":"kick","id":7}"#),
        err("a session id with a slash", 4504, r#"{"t":"kick","id":7,"session":"a/b"}"#),
        err("an id with white space", 4504, "{\"t\":\"join\",\"id\":7,\"room\":\"a\u{a0}b\"}"),
        err(
            "an id with a mark that turns the text",
            4504,
            "{\"t\":\"join\",\"id\":7,\"room\":\"a\u{202e}b\"}",
        ),
    ]
}

pub(crate) fn long_ids() -> Vec<Refused> {
    let long = |name: &str, before: &str, n: usize, after: &str| Refused {
        answer: "err".into(),
        id: Some(7),
        ..pieces(name, Encoding::Json, 4504, &[(before, 1), ("x", n), (after, 1)])
    };
    vec![
        long("a user id too long", r#"{"t":"hello","id":7,"v":1,"user":""#, 65, r#""}"#),
        long("a device id too long", r#"{"t":"hello","id":7,"v":1,"device":""#, 65, r#""}"#),
        long("a token too long", r#"{"t":"hello","id":7,"v":1,"token":""#, 4097, r#""}"#),
        long("a room id too long", r#"{"t":"join","id":7,"room":""#, 129, r#""}"#),
        long("a session id too long", r#"{"t":"kick","id":7,"session":""#, 65, r#""}"#),
        long(
            "a message id too long",
            r#"{"t":"send","id":7,"room":"tea","content":1,"mid":""#,
            65,
            r#""}"#,
        ),
        long(
            "a state key too long",
            r#"{"t":"remove_state","id":7,"room":"tea","key":""#,
            129,
            r#""}"#,
        ),
        long(
            "an event kind too long",
            r#"{"t":"signal","id":7,"room":"tea","content":1,"kind":""#,
            33,
            r#""}"#,
        ),
    ]
}

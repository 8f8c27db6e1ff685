// Names as people type them, and the ids that the wire takes for them (wire/SPEC.md, "Ids and other texts").

/** What no id has anywhere: white space, controls, halves of characters, and characters that nobody sees. */
const UNSEEN = /[\p{White_Space}\p{Cc}\p{Cs}\p{Default_Ignorable_Code_Point}\u2800\ufff9-\ufffb]/gu;

/**
 * The id for a name, of at most `max` bytes; empty if no character of it can be seen. Names are richer than ids: a joiner or a
 * selector between letters or emoji is part of the name that is shown, and of no id. Names that differ in nothing else have
 * the same id.
 */
export function asId(name, max) {
  const words = name.split(/\p{White_Space}+/u).map((word) => word.replace(UNSEEN, ""));
  const visible = words.filter(Boolean).join("_").normalize("NFC");
  const bytes = new TextEncoder();
  let id = "";
  for (const char of visible) {
    if (bytes.encode(id + char).length > max) break;
    id += char;
  }
  return id;
}

/** A name for an id, where nobody has told the name. */
export function readable(id) {
  return id.replaceAll("_", " ");
}

/** The first letter or emoji of a name, with all that belongs to it. */
export function initial(name) {
  const letters = Intl.Segmenter ? Array.from(new Intl.Segmenter().segment(name), ({ segment }) => segment) : [...name];
  return (letters.find((letter) => letter.replace(UNSEEN, "") !== "") ?? "").toUpperCase();
}

/** The key of a room's state under which a user tells the name that they typed. */
export function nameKey(user) {
  return `name:${user}`;
}

/** Who tells a name by this entry of a room's state, and which; undefined if it is none, or somebody else's doing. */
export function reportedName({ key, from, value }) {
  return key === nameKey(from) && typeof value === "string" && value ? { user: from, name: value.slice(0, 40) } : undefined;
}

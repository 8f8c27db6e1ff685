// Names as users type them, and the ids that the wire accepts for them (wire/SPEC.md, "Ids and
// other texts").

/** Characters not allowed in ids: white space, controls, surrogates, and invisible ones. */
const UNSEEN = /[\p{White_Space}\p{Cc}\p{Cs}\p{Default_Ignorable_Code_Point}\u2800\ufff9-\ufffb]/gu;

/**
 * Returns the id for a name, of at most `max` bytes; empty if no character of it is visible. Names
 * are richer than ids: joiners and selectors between letters or emoji are part of the displayed
 * name and of no id. Names that differ only in those have the same id.
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

/** Returns a name for an id whose name is unknown. */
export function readable(id) {
  return id.replaceAll("_", " ");
}

/** Returns the first letter or emoji of a name, as a whole grapheme. */
export function initial(name) {
  const letters = Intl.Segmenter ? Array.from(new Intl.Segmenter().segment(name), ({ segment }) => segment) : [...name];
  return (letters.find((letter) => letter.replace(UNSEEN, "") !== "") ?? "").toUpperCase();
}

/** Returns the key of a room's state for the name that a user typed. */
export function nameKey(user) {
  return `name:${user}`;
}

/** Returns the user and name of an entry of a room's state; undefined if it is no name or by another user. */
export function reportedName({ key, from, value }) {
  return key === nameKey(from) && typeof value === "string" && value ? { user: from, name: value.slice(0, 40) } : undefined;
}

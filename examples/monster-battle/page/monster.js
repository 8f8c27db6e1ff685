// Draws the monsters. Each number has its own colour, horns and eyes.

const NS = "http://www.w3.org/2000/svg";
const HUES = [268, 128, 8, 172, 24, 212, 92, 234];
const HORNS = [
  "M58 62C44 44 40 26 46 12c14 8 26 20 32 38ZM142 62c14-18 18-36 12-50-14 8-26 20-32 38Z",
  "M60 60C38 56 24 44 20 26c20 0 38 8 52 22ZM140 60c22-4 36-16 40-34-20 0-38 8-52 22Z",
  "M74 48 66 14l20 24 14-30 14 30 20-24-8 34Z",
];

function shape(name, attributes) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function eye(x, y, r, isDown) {
  if (isDown) return [shape("path", { d: `M${x - r * 0.6} ${y - r * 0.6}l${r * 1.2} ${r * 1.2}m0-${r * 1.2}l-${r * 1.2} ${r * 1.2}`, class: "cross" })];
  return [
    shape("circle", { cx: x, cy: y, r, fill: "#fff" }),
    shape("circle", { cx: x, cy: y + r * 0.15, r: r * 0.48, fill: "#1d2430", class: "pupil" }),
    shape("circle", { cx: x - r * 0.15, cy: y - r * 0.05, r: r * 0.14, fill: "#fff" }),
  ];
}

/** Draws the monster of this number with this fraction of its hit points left. */
export function draw(svg, number, left) {
  const hue = HUES[(number - 1) % HUES.length];
  const [body, dark, belly] = [`hsl(${hue} 46% 54%)`, `hsl(${hue} 44% 40%)`, `hsl(${hue} 56% 70%)`];
  const isDown = left <= 0;
  const eyes = [[[100, 82, 20]], [[78, 82, 16], [122, 82, 16]], [[66, 86, 12], [100, 76, 15], [134, 86, 12]]][number % 3];
  const mouth = isDown ? "M78 128q22-12 44 0" : left < 0.35 ? "M74 126q26-16 52 0q-26-4-52 0Z" : "M66 114h68q-6 26-34 26t-34-26Z";
  const parts = [
    shape("ellipse", { cx: 100, cy: 168, rx: 62, ry: 8, class: "shade" }),
    shape("path", { d: HORNS[number % HORNS.length], fill: dark }),
    shape("path", { d: "M36 128c-18-4-26 6-24 20 8-2 18-4 28-2ZM164 128c18-4 26 6 24 20-8-2-18-4-28-2Z", fill: dark }),
    shape("path", { d: "M100 36c42 0 68 30 68 72 0 36-22 60-68 60s-68-24-68-60c0-42 26-72 68-72Z", fill: body }),
    shape("path", { d: "M100 104c26 0 40 14 40 34s-14 28-40 28-40-8-40-28 14-34 40-34Z", fill: belly, opacity: 0.45 }),
    ...eyes.flatMap(([x, y, r]) => eye(x, y, r, isDown)),
    shape("path", { d: mouth, class: isDown ? "line" : "mouth" }),
  ];
  if (!isDown && left >= 0.35) parts.push(shape("path", { d: "M76 114l6 10 6-10ZM112 114l6 10 6-10Z", fill: "#fff" }));
  svg.replaceChildren(...parts);
  svg.classList.toggle("down", isDown);
}

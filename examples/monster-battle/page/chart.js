// Small SVG charts without dependencies.

const NS = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [240, 44];

function element(name, attributes) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function begin(svg) {
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  return [element("line", { x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5, class: "base" })];
}

/**
 * A bar for each second of the last minute.
 *
 * @param {SVGElement} svg
 * @param {number[]} values the newest last
 * @param {number} most the value of the whole height
 */
export function bars(svg, values, most) {
  const parts = begin(svg);
  const width = WIDTH / 60;
  values.forEach((value, at) => {
    if (value <= 0) return;
    const height = Math.max(1.5, Math.min(1, value / most) * (HEIGHT - 3));
    const x = (60 - values.length + at) * width;
    parts.push(element("rect", { x: x + 0.4, y: HEIGHT - 1 - height, width: width - 0.8, height, class: "bar" }));
  });
  svg.replaceChildren(...parts);
}

/** Vertical position of a time: 1 ms at the bottom, 10 s at the top, logarithmic. */
const level = (ms) => HEIGHT - 2 - (Math.min(4, Math.max(0, Math.log10(ms))) / 4) * (HEIGHT - 4);

/**
 * A dot for each measured time of the last minute, on a logarithmic scale.
 *
 * @param {SVGElement} svg
 * @param {{at: number, ms: number}[]} times
 * @param {number} now
 */
export function dots(svg, times, now) {
  const parts = begin(svg);
  for (const ms of [10, 100, 1000]) parts.push(element("line", { x1: 0, x2: WIDTH, y1: level(ms), y2: level(ms), class: "grid" }));
  for (const { at, ms } of times) {
    const x = WIDTH - 3 - ((now - at) / 60_000) * (WIDTH - 3);
    // A line of zero length with round ends stays a circle when the chart is stretched.
    if (x > 0) parts.push(element("line", { x1: x, x2: x, y1: level(ms), y2: level(ms), class: "dot" }));
  }
  svg.replaceChildren(...parts);
}

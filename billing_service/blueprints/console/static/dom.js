// Making elements. Data becomes text nodes and never markup: nothing here, and nothing elsewhere, parses HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `h("td", {class: "note"}, "text", otherElement)`. Null and false children are left out. */
export function h(name, attributes = {}, ...children) {
  return made(document.createElement(name), attributes, children);
}

/** An element of a drawing. */
export function s(name, attributes = {}, ...children) {
  return made(document.createElementNS(SVG, name), attributes, children);
}

/** Replace what is inside of an element. */
export function fill(element, ...children) {
  element.replaceChildren(...present(children));
}

export function byId(id) {
  return document.getElementById(id);
}

const USABLE = "a[href], button, input, select, textarea, summary, [tabindex]";

/** Draw a part of the page anew under somebody's hands: focus, scrolling and what is opened (by id) stay. */
export function redraw(container, draw) {
  const focused = container.contains(document.activeElement) ? placeOf(document.activeElement, container) : null;
  const opened = [...container.querySelectorAll("details[open][id]")].map(({ id }) => id);
  const { scrollX, scrollY } = window;
  draw();
  for (const id of opened) byId(id)?.setAttribute("open", "");
  const target = focused && found(focused, container);
  if (target && document.activeElement !== target) target.focus({ preventScroll: true });
  window.scrollTo(scrollX, scrollY);
}

/** How an element is found again: by its id, else as the so-manieth with its words. */
function placeOf(element, container) {
  const alike = [...container.querySelectorAll(USABLE)].filter((each) => each.textContent === element.textContent);
  return { id: element.id, words: element.textContent, number: alike.indexOf(element) };
}

function found({ id, words, number }, container) {
  if (id) return byId(id);
  const alike = [...container.querySelectorAll(USABLE)].filter((each) => each.textContent === words);
  return alike[Math.min(number, alike.length - 1)];
}

function made(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...present(children));
  return element;
}

function present(children) {
  return children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false);
}

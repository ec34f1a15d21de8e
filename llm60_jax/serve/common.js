// What the parts of the page share: questions to the server, its errors, elements, tokens with alternatives.
// Text of models and runs goes into the page as text; HTML comes from the server's own escaped fragments alone.

export const $ = (id) => document.getElementById(id);

/** Make an element: make("p", {class: "soft", onclick: f}, "text", child). Strings become text. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** An answer that the server gave as an error; `status` 0 means that it did not answer. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const GONE = "The server does not answer. Is tools/serve.py still running?";

/** Ask the server. Return the response if it is good or 304, throw Refused otherwise. */
export async function ask(address, options = {}) {
  let response;
  try {
    response = await fetch(address, { cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, GONE);
  }
  if (response.ok || response.status === 304) return response;
  let message = `The server answered ${response.status}.`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // it has no message of its own
  }
  throw new Refused(response.status, message);
}

export function post(address, value, signal) {
  const headers = { "Content-Type": "application/json" };
  return ask(address, { method: "POST", headers, body: JSON.stringify(value), signal });
}

/** Show one line about what went wrong; "" takes it away. */
export function trouble(message) {
  $("trouble").hidden = !message;
  $("trouble").textContent = message;
}

/** Return the characters of a token so that each can be seen. */
export function visible(text) {
  if (text === "") return "(end of the text)";
  const shown = text.replace(/\n/g, "⏎").replace(/^ +| +$/g, (spaces) => "␣".repeat(spaces.length));
  // Characters that reorder or hide others, and control characters, by their numbers.
  return shown.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g, (c) =>
    `<U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}>`);
}

export const percent = (log) => {
  const share = 100 * Math.exp(log);
  if (share >= 10) return `${share.toFixed(0)} %`;
  return share >= 0.001 ? `${Number(share.toPrecision(share >= 1 ? 2 : 1))} %` : "< 0.001 %";
};

/**
 * Words of which each token shows its alternatives on a click, or on Enter after the arrow keys.
 * The whole text is one stop of the Tab key.
 */
export class Words {
  /** `goOn(text, token)`, if given, is called when an alternative is chosen: the text before it, and it. */
  constructor(given, goOn) {
    this.tokens = []; // {element, text, log, likeliest}
    this.goOn = goOn;
    this.element = make("div", { class: "words", role: "group", "aria-label": "text, token by token" });
    this.others = make("div", { class: "others", "aria-live": "polite", hidden: true });
    this.given = given;
    if (given) this.element.append(make("span", { class: "given" }, given));
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.element.addEventListener("click", (event) => {
      const place = this.tokens.findIndex((token) => token.element === event.target);
      if (place >= 0) this.open(place);
    });
  }

  /** Add a token. */
  add(text, log, likeliest, kind = "") {
    const element = make("span", { class: `token ${kind}`, role: "button", "aria-expanded": "false" }, text);
    element.tabIndex = this.tokens.length ? -1 : 0;
    this.element.append(element);
    this.tokens.push({ element, text, log, likeliest });
  }

  /** Give a token, already added, another text: its end may have been kept back. */
  amend(place, text) {
    if (this.tokens[place].text === text) return;
    this.tokens[place].text = text;
    this.tokens[place].element.textContent = text;
  }

  key(event) {
    const place = this.tokens.findIndex((token) => token.element === document.activeElement);
    if (place < 0 || event.ctrlKey || event.altKey || event.metaKey) return;
    const last = this.tokens.length - 1;
    const targets = { ArrowRight: place + 1, ArrowDown: place + 1, ArrowLeft: place - 1, ArrowUp: place - 1, Home: 0, End: last };
    if (event.key === "Enter" || event.key === " ") this.open(place);
    else if (event.key === "Escape" && !this.others.hidden) this.close();
    else if (event.key in targets) this.focus(Math.min(last, Math.max(0, targets[event.key])));
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  focus(place) {
    for (const token of this.tokens) token.element.tabIndex = -1;
    this.tokens[place].element.tabIndex = 0;
    this.tokens[place].element.focus();
  }

  close() {
    this.others.hidden = true;
    for (const token of this.tokens) token.element.setAttribute("aria-expanded", "false");
  }

  /** Show the alternatives of a token below the text, or hide them. */
  open(place) {
    const token = this.tokens[place];
    const isOpen = token.element.getAttribute("aria-expanded") === "true";
    this.close();
    if (isOpen) return;
    for (const other of this.tokens) other.element.tabIndex = -1;
    token.element.tabIndex = 0;
    token.element.setAttribute("aria-expanded", "true");
    this.others.replaceChildren(...this.alternatives(place));
    this.others.hidden = false;
  }

  alternatives(place) {
    const token = this.tokens[place];
    if (token.log == null) return [make("p", {}, "The first token: nothing comes before it.")];
    const before = this.given + this.tokens.slice(0, place).map((earlier) => earlier.text).join("");
    const rows = Object.entries(token.likeliest ?? {}).sort((a, b) => b[1] - a[1]).map(([text, log]) => {
      // Of bytes and of the end of a text there is nothing to go on from.
      const canGoOn = this.goOn && text !== "" && !text.startsWith("bytes:");
      const name = canGoOn
        ? make("button", { type: "button", title: "go on from here", onclick: () => this.goOn(before, text) }, visible(text))
        : make("span", { class: "piece" }, visible(text));
      const meter = make("meter", { min: 0, max: 1, value: Math.exp(log), "aria-label": percent(log) });
      return make("tr", { class: text === token.text ? "taken" : "" },
        make("td", {}, name), make("td", {}, percent(log)), make("td", {}, meter));
    });
    const heading = `${visible(token.text)}: ${percent(token.log)}, ${(-token.log / Math.LN2).toFixed(1)} bits of surprise`;
    const head = make("tr", {}, make("th", {}, "instead"), make("th", {}, "probability"), make("th", {}, ""));
    return [make("h4", {}, heading), make("table", {}, head, ...rows)];
  }
}

/** Call `work` again and again, each time after `seconds`, while `isWanted`. A failed call waits longer. */
export class Poll {
  constructor(work, isWanted, seconds) {
    Object.assign(this, { work, isWanted, seconds, timer: 0, failures: 0, running: false });
    document.addEventListener("visibilitychange", () => this.now());
  }

  /** Ask at once, if anybody looks. */
  async now() {
    clearTimeout(this.timer);
    if (this.running) this.again = true; // what is asked for changed meanwhile
    if (!this.isWanted() || document.hidden || this.running) return;
    this.running = true;
    this.again = false;
    try {
      await this.work();
      if (this.failures) trouble("");
      this.failures = 0;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.failures += 1;
      trouble(error.status ? error.message : `${error.message} The page tries again by itself.`);
    } finally {
      this.running = false;
      const seconds = this.again ? 0 : this.seconds * Math.min(8, 1 + this.failures);
      this.timer = setTimeout(() => this.now(), 1000 * seconds);
    }
  }
}

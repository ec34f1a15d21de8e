// Look inside: how surprising each token of a text is, and what each block adds.

import { $, Refused, Words, make, percent, post, trouble, visible } from "./common.js";

const BITS = [2, 4, 6, 8, 11]; // from which on a token is shaded, and shaded more
const LISTED = 12;

export function startInside() {
  $("inside-form").addEventListener("submit", (event) => {
    event.preventDefault();
    look();
  });
  $("inside-text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("inside-form").requestSubmit();
  });
}

export function insideModels(models) {
  const before = $("inside-model").value;
  $("inside-model").replaceChildren(...models.map((model) => make("option", { value: model.id }, model.id)));
  if (models.some((model) => model.id === before)) $("inside-model").value = before;
}

async function look() {
  trouble("");
  $("looked").replaceChildren(make("p", { class: "soft" }, "Reading ..."));
  try {
    if (!$("inside-model").value) throw new Refused(400, "There is no checkpoint yet.");
    const question = { model: $("inside-model").value, text: $("inside-text").value };
    show(await (await post("/api/inside", question)).json());
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    $("looked").replaceChildren();
    trouble(error.message);
  }
}

const bits = (log) => -log / Math.LN2;

function shade(log) {
  const level = BITS.filter((from) => bits(log) >= from).length;
  return level ? `s${level}` : "";
}

function show(found) {
  const words = new Words("");
  for (const { text, nats, likeliest } of found.tokens) {
    const logs = likeliest.map((other) => [other.text, Math.log(other.p)]);
    if (!likeliest.some((other) => other.text === text)) logs.push([text, -nats]);
    words.add(text, -nats, Object.fromEntries(logs), shade(-nats));
  }
  const scored = words.tokens.map((token, place) => ({ ...token, place })).filter(({ text }) => text);
  const surprises = [...scored].sort((a, b) => a.log - b.log).slice(0, LISTED).map(({ text, log, place }) => {
    const go = () => {
      if (words.tokens[place].element.getAttribute("aria-expanded") !== "true") words.open(place);
      words.focus(place);
    };
    return make("li", {}, make("button", { type: "button", onclick: go }, visible(text)), ` ${bits(log).toFixed(1)} bits, ${percent(log)}`);
  });
  const scale = make("p", { class: "scale" }, "bits of surprise from:",
    ...BITS.map((from, place) => make("span", { class: `s${place + 1}` }, String(from))));
  const count = words.tokens.length;
  const mean = words.tokens.reduce((sum, { log }) => sum - log, 0) / Math.max(1, count);
  const cut = found.is_cut ? ` of ${found.tokens_in_text}, as many as the model's context holds` : "";
  const summary = `${count} tokens${cut}; loss ${mean.toFixed(3)} nats a token; perplexity ${Math.exp(mean).toFixed(1)}`;
  const charts = make("div", { class: "grid2" });
  charts.innerHTML = found.charts; // drawn and escaped by the server
  $("looked").replaceChildren(
    make("p", {}, summary), scale, words.element, words.others,
    make("h3", {}, "Most surprising"), make("ol", { class: "surprises" }, ...surprises),
    make("h3", {}, "Block by block"), charts);
}

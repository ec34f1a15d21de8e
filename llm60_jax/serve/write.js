// Write: a prompt, words as they come, the same prompt through several checkpoints.

import { $, Refused, Words, make, post, trouble } from "./common.js";

const ALTERNATIVES = 8;
let running = null; // the AbortController of the texts being written

export function startWrite() {
  $("write-form").addEventListener("submit", (event) => {
    event.preventDefault();
    writeAll();
  });
  $("stop").addEventListener("click", () => running?.abort());
  addEventListener("keydown", (event) => {
    if ($("write").hidden) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("write-form").requestSubmit();
    if (event.key === "Escape") running?.abort();
  });
}

/** Offer the checkpoints, run by run; what was chosen and focused stays so. */
export function writeModels(models) {
  const chosen = new Set(chosenModels());
  const hasBegun = $("models").querySelector("input") !== null;
  const focused = $("models").contains(document.activeElement) ? document.activeElement.value : "";
  const runs = new Map();
  for (const model of models) {
    const run = model.id.split("/")[0];
    if (!runs.has(run)) runs.set(run, []);
    runs.get(run).push(model);
  }
  const legend = $("models").querySelector("legend");
  const groups = [...runs].map(([run, ofRun]) => {
    const ordered = [...ofRun].sort((a, b) => a.step - b.step || b.id.length - a.id.length);
    const labels = ordered.map((model) => {
      const name = model.id === run ? "newest" : model.id.slice(run.length + 1);
      const box = make("input", { type: "checkbox", value: model.id });
      box.checked = hasBegun ? chosen.has(model.id) : model === models[0];
      return make("label", {}, box, make("span", {}, name.replace(/^(phases|checkpoints)\//, "")),
        make("small", {}, `${name.startsWith("phases/") ? "end of phase, " : ""}step ${model.step.toLocaleString("en")}`));
    });
    const row = make("div", { class: "row" }, ...labels);
    const boxes = [...row.querySelectorAll("input")];
    const all = make("button", { type: "button", value: `all of ${run}`, class: "small-button", onclick: () => {
      const isChosen = boxes.some((box) => !box.checked);
      for (const box of boxes) box.checked = isChosen;
    } }, "all or none");
    row.append(all);
    return make("div", { role: "group", "aria-label": run }, make("h3", {}, run), row);
  });
  const none = make("p", { class: "soft" }, "No checkpoint yet. A run saves one at the end of each phase, and now and then.");
  $("models").replaceChildren(legend, ...(groups.length ? groups : [none]));
  if (focused) [...$("models").querySelectorAll("input, button")].find((box) => box.value === focused)?.focus();
}

function chosenModels() {
  return [...$("models").querySelectorAll("input:checked")].map((box) => box.value);
}

/** Return the settings, or throw Refused. */
function settings() {
  const wanted = { max_tokens: 0, temperature: 0, top_p: 0, top_k: 0, repetition_penalty: 0 };
  for (const name of Object.keys(wanted)) {
    if ($(name).value === "") throw new Refused(400, `Give a number for ${$(name).labels[0].textContent}.`);
    wanted[name] = Number($(name).value);
  }
  // All checkpoints draw with one seed, so that they differ by what they learnt alone.
  wanted.seed = $("seed").value === "" ? Math.floor(Math.random() * 2 ** 31) : Number($("seed").value);
  return wanted;
}

async function writeAll() {
  running?.abort();
  trouble("");
  const models = chosenModels();
  const prompt = $("prompt").value;
  try {
    if (!models.length) throw new Refused(400, "Choose a checkpoint first.");
    const wanted = settings();
    const cards = models.map((model) => new Card(model, wanted));
    $("texts").replaceChildren(...cards.map((card) => card.element));
    await during(async (signal) => {
      for (const card of cards) await card.write(prompt, signal);
    });
    for (const card of cards) card.leave();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    trouble(error.message);
  }
}

/** Do something that the stop button ends. */
async function during(work) {
  const controller = new AbortController();
  running = controller;
  $("stop").disabled = false;
  try {
    await work(controller.signal);
  } catch (error) {
    if (error.name !== "AbortError") throw error;
  } finally {
    if (running === controller) {
      running = null;
      $("stop").disabled = true;
    }
  }
}

/** A text of one checkpoint. */
class Card {
  constructor(model, wanted) {
    Object.assign(this, { model, wanted });
    this.body = make("div", {}, make("p", { class: "soft" }, "waits ..."));
    this.element = make("article", {}, make("h3", {}, model.replace(/\/(phases|checkpoints)\//, ": ")), this.body);
  }

  /** Say that nothing comes any more, if nothing has begun. */
  leave() {
    if (!this.words) this.body.replaceChildren(make("p", { class: "soft" }, "stopped"));
  }

  /** Go on after another token than the one that was drawn. */
  async goOn(before, token) {
    running?.abort();
    await during((signal) => this.write(before + token, signal));
    this.words.tokens[0]?.element.focus();
  }

  async write(prompt, signal) {
    this.words = new Words(prompt, (before, token) => this.goOn(before, token));
    this.ends = make("p", { class: "ends" });
    this.body.replaceChildren(this.words.element, this.words.others, this.ends);
    this.words.element.classList.add("writes");
    this.text = [];
    this.offsets = [];
    this.start = 0; // milliseconds; when the first token came
    let reason = "stopped";
    try {
      const request = { model: this.model, prompt, stream: true, logprobs: ALTERNATIVES, ...this.wanted };
      const response = await post("/v1/completions", request, signal);
      for await (const event of events(response)) {
        if (event.error) throw new Refused(500, event.error.message);
        for (const choice of event.choices) {
          this.take(choice);
          reason = choice.finish_reason ?? reason;
        }
      }
    } catch (error) {
      if (error.name === "AbortError") throw error;
      reason = error instanceof Refused ? error.message : "The server went away. Is tools/serve.py still running?";
      if (!(error instanceof Refused || error instanceof TypeError)) throw error;
    } finally {
      this.words.element.classList.remove("writes");
      this.finish(reason);
    }
  }

  /** Add what one event brings: text, and the tokens that begin in it. */
  take({ text, logprobs }) {
    this.start ||= performance.now();
    this.text.push(...text);
    const first = Math.max(0, this.offsets.length - 1);
    for (const [place, offset] of (logprobs?.text_offset ?? []).entries()) {
      this.offsets.push(offset);
      this.words.add("", logprobs.token_logprobs[place], logprobs.top_logprobs[place]);
    }
    for (let place = first; place < this.offsets.length; place++) {
      this.words.amend(place, this.text.slice(this.offsets[place], this.offsets[place + 1]).join(""));
    }
    say(text);
  }

  finish(reason) {
    const count = this.offsets.length;
    const seconds = (performance.now() - this.start) / 1000;
    const ends = { stop: "the model ended the text", length: "as long as asked for", stopped: "stopped" }[reason] ?? reason;
    const speed = count > 1 ? `, ${((count - 1) / seconds).toFixed(0)} a second` : "";
    this.ends.textContent = `${count} tokens${speed}; ${ends}; seed ${this.wanted.seed}`;
    this.ends.classList.toggle("bad", !["stop", "length", "stopped"].includes(reason));
    say("", true);
  }
}

/** Yield the events of a stream: lines "data: JSON", up to "data: [DONE]". */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const data = line.startsWith("data:") ? line.slice(5).trim() : "";
      if (data === "[DONE]") return;
      if (data) yield JSON.parse(data);
    }
  }
}

let unsaid = "";
let saying = 0;

/** Give new words to screen readers, a few seconds' at a time. */
function say(text, atOnce = false) {
  unsaid += text;
  clearTimeout(saying);
  const speak = () => {
    if (unsaid) $("spoken").textContent = unsaid;
    unsaid = "";
  };
  if (atOnce || unsaid.length > 200) speak();
  else saying = setTimeout(speak, 1500);
}

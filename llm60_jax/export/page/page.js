// The page: its form, and the text as it comes. worker.js holds the model, so that the page stays responsive.

const part = (id) => document.getElementById(id);
const { context, eos } = part("form").dataset;
const settings = ["tokens", "temperature", "top_k", "top_p", "repetition_penalty", "seed"];

// A worker from a blob has the policy of this page; one from an address would have none.
const address = JSON.stringify(new URL("worker.js", import.meta.url).href);
const blob = new Blob([`import ${address};`], { type: "text/javascript" });
const worker = new Worker(URL.createObjectURL(blob), { type: "module" });

function say(message, failed = false) {
  part("status").textContent = message;
  part("status").className = failed ? "bad" : "";
}

function allow(writing) {
  part("write").disabled = writing;
  part("stop").disabled = !writing;
}

const heard = {
  loading: ({ share }) => say(share < 1 ? `Loading the model: ${Math.floor(100 * share)} %` : "Preparing the model."),
  ready: () => {
    say("Ready.");
    allow(false);
  },
  text: ({ text, tokens }) => {
    part("text").textContent = text; // never markup
    say(`${tokens} tokens`);
  },
  done: ({ tokens, seconds, ended }) => {
    const why = ended ? "The model ended its text." : "";
    say(`${tokens} tokens, ${(tokens / Math.max(seconds, 1e-9)).toFixed(1)} a second. ${why}`);
    allow(false);
  },
  failed: ({ message, usable }) => {
    say(message, true);
    part("write").disabled = !usable;
    part("stop").disabled = true;
  },
};

worker.onmessage = ({ data }) => heard[data.kind](data);
worker.onerror = (event) => heard.failed({ message: `The model cannot run here: ${event.message}`, usable: false });

part("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const values = Object.fromEntries(settings.map((name) => [name, part(name).valueAsNumber]));
  part("text").textContent = "";
  say("Writing.");
  allow(true);
  worker.postMessage({ kind: "write", prompt: part("prompt").value, ...values, context: +context, eos: +eos });
});
part("stop").addEventListener("click", () => worker.postMessage({ kind: "stop" }));
part("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) part("form").requestSubmit(part("write"));
});

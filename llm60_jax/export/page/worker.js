// The model in a worker. Every file comes from the folder that this file lies in, or from the one above it.

import { AutoModelForCausalLM, AutoTokenizer, Tensor, env, random } from "./transformers.min.js";

const beside = (name) => new URL(name, import.meta.url).href;
const root = new URL("..", import.meta.url);
env.allowRemoteModels = false;
env.allowLocalModels = true;
env.useBrowserCache = false; // a new export at the same address must not meet the old one's files
env.useWasmCache = false;
env.fetch = async (name, options) => counted(name, await fetch(new URL(name, root), options));
Object.assign(env.backends.onnx.wasm, {
  wasmPaths: { mjs: beside("ort-wasm-simd-threaded.mjs"), wasm: beside("ort-wasm-simd-threaded.wasm") },
  numThreads: 1, // several need headers that a plain server of files does not send
});

let stopped = false;
let writing = false;

// Return the model's next token, drawn as this project's own `generate.choose` draws it.
function choose(logits, seen, request, uniform) {
  for (const token of request.repetition_penalty === 1 ? [] : seen) {
    const value = logits[token];
    logits[token] = value > 0 ? value / request.repetition_penalty : value * request.repetition_penalty;
  }
  const likeliest = logits.reduce((best, value, token) => (value > logits[best] ? token : best), 0);
  if (request.temperature === 0) return likeliest;
  const tokens = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a]);
  if (request.top_k) tokens.length = Math.min(request.top_k, tokens.length);
  const weights = tokens.map((token) => Math.exp((logits[token] - logits[likeliest]) / request.temperature));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let share = 0; // of the likelier tokens
  const eligible = weights.map((weight) => {
    const before = share;
    share += weight / total;
    return before < request.top_p ? weight : 0;
  });
  let rest = uniform() * eligible.reduce((sum, weight) => sum + weight, 0);
  const place = eligible.findIndex((weight) => (rest -= weight) < 0);
  return tokens[Math.max(place, 0)];
}

// Return the keys and values of a pass as inputs of the next one.
function cache(outputs) {
  const present = Object.keys(outputs).filter((name) => name.startsWith("present."));
  return Object.fromEntries(present.map((name) => [name.replace("present", "past_key_values"), outputs[name]]));
}

const integers = (values) => new Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);

// Let messages in, such as "stop".
const breathe = () => new Promise((resume) => setTimeout(resume));

async function write({ model, tokenizer }, request) {
  // BOS stays; a long prompt loses its beginning, with room for the wanted tokens or half the context.
  const [bos, ...prompt] = tokenizer.encode(request.prompt);
  const most = request.context - 1 - Math.min(request.tokens, Math.floor(request.context / 2));
  const ids = [bos, ...prompt.slice(Math.max(0, prompt.length - most))];
  const given = ids.length;
  const end = Math.min(given + request.tokens, request.context);
  const generator = new random.Random(request.seed);
  const began = performance.now();
  let past = null;
  let fresh = ids;
  let ended = false;
  while (ids.length < end && !ended && !stopped) {
    const inputs = { input_ids: integers(fresh), attention_mask: integers(ids.map(() => 1)), past_key_values: past };
    const outputs = await model(inputs);
    past = cache(outputs);
    const size = outputs.logits.dims[2];
    const logits = outputs.logits.data.slice(-size);
    const token = choose(logits, new Set(ids), request, () => generator.random());
    ended = token === request.eos;
    if (!ended) ids.push(token);
    fresh = [token];
    // The decoder leaves the space before the first word, which this project's own drops.
    const text = tokenizer.decode(ids, { skip_special_tokens: true }).replace(/^ /, "");
    postMessage({ kind: "text", text, tokens: ids.length - given });
    await breathe();
  }
  postMessage({ kind: "done", tokens: ids.length - given, seconds: (performance.now() - began) / 1000, ended });
}

// Report how much of the weights has come. The library's own reports would fetch the file twice.
function counted(name, response) {
  const size = Number(response.headers.get("content-length"));
  if (!response.ok || !size || !String(name).endsWith(".onnx")) return response;
  let read = 0;
  const count = new TransformStream({
    transform(bytes, controller) {
      read += bytes.length;
      postMessage({ kind: "loading", share: read / size });
      controller.enqueue(bytes);
    },
  });
  return new Response(response.body.pipeThrough(count), { status: response.status, headers: response.headers });
}

async function load() {
  const tokenizer = await AutoTokenizer.from_pretrained(".");
  const model = await AutoModelForCausalLM.from_pretrained(".", { device: "wasm", dtype: "fp32" });
  postMessage({ kind: "ready" });
  return { model, tokenizer };
}

const loaded = load();
loaded.catch((error) => postMessage({ kind: "failed", message: `The model cannot be loaded: ${error}`, usable: false }));

onmessage = async ({ data }) => {
  if (data.kind === "stop") stopped = true;
  if (data.kind !== "write" || writing) return;
  writing = true;
  stopped = false;
  try {
    await write(await loaded, data);
  } catch (error) {
    postMessage({ kind: "failed", message: `Writing failed: ${error}`, usable: true });
  }
  writing = false;
};

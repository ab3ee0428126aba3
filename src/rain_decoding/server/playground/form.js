// The prompt form: what the operator leaves to clients can be chosen, the rest is shown.

import { byId, element } from "./dom.js";
import { DEMO_PROMPTS } from "./prompts.js";

const OWN = "(own principle)";

export class PromptForm {
  constructor() {
    byId("criterion").addEventListener("change", () => this.#showPrinciple());
    byId("prompt").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("form").requestSubmit();
    });
  }

  // Offer what the server has.
  offer(config) {
    this.config = config;
    const { presets, criteria, defaults } = config;
    const criterion = byId("criterion");
    fill(byId("preset"), presets, defaults.preset, this.#may("preset"));
    fill(criterion, criteria, defaults.criterion, this.#may("criterion"));
    if (this.#may("principle")) {
      criterion.append(element("option", { value: OWN, text: "my own principle …" }));
      criterion.disabled = false;
    }
    byId("intro").textContent = this.#intro();
    byId("operator-note").textContent = this.#note();
    byId("model").textContent = config.model;
    if (config.model === "demo") this.#offerPrompts();
    byId("form").hidden = false;
  }

  get mayPlain() {
    return this.#may("plain");
  }

  get mayTrace() {
    return this.#may("trace");
  }

  plainRequest() {
    return { ...this.#request(), model: `${this.config.model}:plain` };
  }

  rainRequest() {
    const rain = { trace: this.mayTrace };
    const { preset, criterion } = this.config.defaults;
    if (byId("preset").value !== preset) rain.preset = byId("preset").value;
    if (byId("criterion").value === OWN) rain.principle = byId("principle").value.trim();
    else if (byId("criterion").value !== criterion) rain.criterion = byId("criterion").value;
    return { ...this.#request(), model: this.config.model, rain };
  }

  #request() {
    const messages = [{ role: "user", content: byId("prompt").value.trim() }];
    return { messages, seed: Number(byId("seed").value) };
  }

  #may(name) {
    return this.config.client_may.includes(name);
  }

  // What the reader will see.
  #intro() {
    const answers = this.mayPlain
      ? "Plain decoding and RAIN answer side by side."
      : "RAIN answers: the model judges what it is about to say, and rewinds from what it judges bad.";
    if (!this.mayTrace) return answers;
    return `${answers} The search behind RAIN’s answer is shown below: what it tried, how it judged that, and where it rewound.`;
  }

  // What this server keeps to itself.
  #note() {
    const kept = ["preset", "criterion"].filter((name) => byId(name).disabled);
    if (!this.mayTrace) kept.push("a view of the search");
    if (!this.mayPlain) kept.push("plain decoding");
    return kept.length ? `Reserved to the operator of this server: ${kept.join(", ")}.` : "";
  }

  #showPrinciple() {
    const own = byId("criterion").value === OWN;
    byId("principle-field").hidden = !own;
    byId("principle").required = own;
    if (own) byId("principle").focus();
  }

  #offerPrompts() {
    const buttons = DEMO_PROMPTS.map(([kind, prompt]) => {
      const button = element("button", { type: "button", class: "offer" });
      button.append(element("small", { text: kind }), element("span", { text: prompt }));
      button.addEventListener("click", () => {
        byId("prompt").value = prompt;
        byId("prompt").focus();
      });
      return element("li", {}, button);
    });
    byId("offers").replaceChildren(...buttons);
    byId("offers").hidden = false;
  }
}

// What the operator chose may have no name that a client could ask for.
function fill(select, values, chosen, enabled) {
  const known = values.includes(chosen) ? values : [chosen, ...values];
  const options = known.map((value) => element("option", { value, text: value }));
  select.replaceChildren(...options);
  select.value = chosen;
  select.disabled = !enabled;
}

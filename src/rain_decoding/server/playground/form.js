// The prompt form: what the operator leaves to clients can be chosen, the rest is shown.

import { byId, element } from "./dom.js";
import { DEMO_PROMPTS } from "./prompts.js";

const OWN = "(own principle)";

export class PromptForm {
  constructor() {
    byId("criterion").addEventListener("change", () => this.#showPrinciple());
    byId("prompt").addEventListener("focus", () => byId("form").classList.remove("folded"));
    byId("prompt").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("form").requestSubmit();
    });
  }

  // Offer what the server has.
  offer(config) {
    this.config = config;
    const { models, presets, criteria, defaults } = config;
    const criterion = byId("criterion");
    fill(byId("preset"), presets, defaults.preset, this.#may("preset"));
    fill(criterion, criteria, defaults.criterion, this.#may("criterion"));
    if (this.#may("principle")) {
      criterion.append(element("option", { value: OWN, text: "my own principle …" }));
      criterion.disabled = false;
    }
    byId("intro").textContent = this.#intro();
    byId("operator-note").textContent = this.#note();
    fill(byId("served"), models, config.model, true);
    byId("served-field").hidden = models.length < 2;
    byId("model").textContent = models.length < 2 ? config.model : "";
    byId("coin").textContent = this.judge.doubt ? `${this.judge.doubt}: it flags, and nothing is searched.` : "";
    if (config.model === "demo") this.#offerPrompts();
    byId("show-rewind").hidden = config.model !== "demo" || !this.mayTrace;
    byId("terms").hidden = config.model !== "demo";
    byId("form").hidden = false;
  }

  // What is known of the judge: whether it was found to beat a coin, and why it is doubted.
  get judge() {
    return this.config.judge ?? {};
  }

  // Leave the screen to the answers; the prompt unfolds it.
  fold() {
    byId("form").classList.add("folded");
    byId("show-rewind").hidden = true;
  }

  // A prompt behind which plain decoding goes wrong.
  takeDemoPrompt() {
    byId("prompt").value = DEMO_PROMPTS[0][1];
  }

  get countsApart() {
    return this.config?.counts_apart ?? false;
  }

  get mayPlain() {
    return this.#may("plain");
  }

  get mayTrace() {
    return this.#may("trace");
  }

  plainRequest() {
    const rain = { judged: true, ...this.#judging() };
    return { ...this.#request(), model: `${byId("served").value}:plain`, rain };
  }

  rainRequest() {
    const rain = { trace: this.mayTrace };
    if (byId("preset").value !== this.config.defaults.preset) rain.preset = byId("preset").value;
    return { ...this.#request(), model: byId("served").value, rain: { ...rain, ...this.#judging() } };
  }

  // What judges, where it is not the operator's choice.
  #judging() {
    const chosen = byId("criterion").value;
    if (chosen === OWN) return { principle: byId("principle").value.trim() };
    return chosen === this.config.defaults.criterion ? {} : { criterion: chosen };
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
    const what = "RAIN lets a model judge what it is about to say and take back what it judges bad, before you see it.";
    const answers = this.mayPlain
      ? `${what} Plain decoding and RAIN answer side by side.`
      : what;
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
    byId("criterion").title = byId("criterion").value; // it may be longer than the field
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
  select.value = select.title = chosen;
  select.disabled = !enabled;
}

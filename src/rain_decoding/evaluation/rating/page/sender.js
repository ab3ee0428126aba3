// Sends ratings one after the other. What cannot be sent is kept and tried again.

const PAUSE = 2000;

export class Sender {
  // `said` hears of every failure, and of null once all is sent.
  constructor(said) {
    this.said = said;
    this.waiting = [];
    this.running = false;
    addEventListener("beforeunload", (event) => {
      if (this.waiting.length) event.preventDefault();
    });
  }

  async send(rating) {
    this.waiting.push(rating);
    if (this.running) return;
    this.running = true;
    while (this.waiting.length) {
      const problem = await post(this.waiting[0]);
      if (problem) {
        this.said(problem);
        await new Promise((done) => setTimeout(done, PAUSE));
      } else {
        this.waiting.shift();
      }
    }
    this.running = false;
    this.said(null);
  }
}

// What went wrong, in words; null if nothing did.
async function post(rating) {
  try {
    await request("/api/ratings", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(rating),
    });
    return null;
  } catch (error) {
    return error.message;
  }
}

// The response to a request. Throws an Error that says what is wrong.
export async function request(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server cannot be reached.");
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => null);
  throw new Error(answer?.error?.message ?? `The server answered ${response.status}.`);
}

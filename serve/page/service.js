// Questions to the service that sent this page.

/** A refusal of the service, in its words. */
export class Refused extends Error {
  constructor(status, message, wait) {
    super(message);
    this.status = status;
    this.wait = wait; // seconds after which to ask again
  }

  /** Whether the service would take the same request later. */
  get busy() {
    return this.status === 429 || this.status === 503;
  }
}

const KEPT = "pocketbert token";

/** Keep the token that the service asks for, until this tab is closed. */
export const keepToken = (token) => sessionStorage.setItem(KEPT, token);

/** What is served. */
export const info = async () => (await request("./info")).content;

/** Post to a path: the answer, the milliseconds until it was here, and those in the service, or null if it does not say. */
export async function ask(path, body, signal) {
  const start = performance.now();
  const { content, headers } = await request(path, { method: "POST", body: JSON.stringify(body), signal });
  const milliseconds = performance.now() - start;
  const timing = /\brun;dur=([\d.]+)/.exec(headers.get("Server-Timing") ?? "");
  return { answer: content, milliseconds, inService: timing && Number(timing[1]) };
}

async function request(path, options = {}) {
  const token = sessionStorage.getItem(KEPT);
  const headers = { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The service does not answer. Is it still running?");
  }
  const content = await response.json().catch(() => ({}));
  if (response.ok) return { content, headers: response.headers };
  const message = content.error ?? `The service answered with status ${response.status}.`;
  throw new Refused(response.status, message, Number(response.headers.get("Retry-After")) || 1);
}

// The page of `firstcnn app`: the pad, read by the server that the page came from.

import { NoAnswer, createPad } from "./pad.js";

const MAX_BYTES = 16e6; // as firstcnn.app.server

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new NoAnswer("The server does not answer. Is it still running? Trying again.");
  }
  if (response.status === 503) throw new NoAnswer("The server is busy. Trying again.");
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function read(blob) {
  const headers = { "Content-Type": blob.type || "application/octet-stream" };
  return ask("read", { method: "POST", headers, body: blob });
}

createPad(document.getElementById("pad"), read, { area: document, maxBytes: MAX_BYTES });

ask("health").then(
  ({ network }) => {
    document.getElementById("network").textContent = `Network: ${network}.`;
  },
  () => {}, // the first reading says it
);

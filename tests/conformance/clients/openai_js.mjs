// openai (npm): OpenAI's SDK for JavaScript.
//
// `baseURL` ends in `/v1`. The SDK asks for base64 by itself and has to get it.

// pasted as "Embeddings"
import OpenAI from "openai";

// end
export const packages = ["openai"];

async function embed({ url, model, key, texts }) {
  // pasted as "Embeddings"
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key });
  const answer = await client.embeddings.create({ model: model, input: texts });
  // end
  return answer.data.map((entry) => entry.embedding);
}

const facts = { without: {}, hides: {}, too_long: "cut", reads: "", prefix: "", normalized: true };
export const surfaces = [{ name: "embeddings.create", kind: "embed", waits: true, call: embed, ...facts }];

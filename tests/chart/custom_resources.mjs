// Validates custom resources against the schemas of their operators: objects as a JSON list on standard input.
// Run with the folder of the npm packages as the only argument; prints one line for each object that is wrong.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";

const packages = {
  "keda.sh/v1alpha1": "keda",
  "monitoring.coreos.com/v1": "prometheus-operator",
  "gateway.networking.k8s.io/v1": "gateway-api",
};

async function kindsOf(apiVersion) {
  const folder = join(process.argv[2], "node_modules", "@kubernetes-models", packages[apiVersion], apiVersion);
  const file = ["index.mjs", "index.js"].map((name) => join(folder, name)).find((path) => existsSync(path));
  return await import(pathToFileURL(file));
}

let checked = 0;
for (const object of JSON.parse(await text(process.stdin))) {
  const kinds = await kindsOf(object.apiVersion);
  try {
    new kinds[object.kind](object).validate();
    checked += 1;
  } catch (error) {
    console.log(`${object.kind}/${object.metadata.name}: ${error.message}`);
  }
}
console.error(`${checked} custom resources are valid`);

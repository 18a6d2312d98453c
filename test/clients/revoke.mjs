// A client that connects again whenever it loses its connection, while its
// right ends.
import fs from "node:fs";
import mqtt from "mqtt";
import { event, params, report } from "./lib.mjs";

const c = mqtt.connect(`mqtts://localhost:${params.port}`, {
  ...params.device, protocolVersion: params.version, ca: fs.readFileSync(params.ca), reconnectPeriod: 100,
  reconnectOnConnackError: true, // others would stop here; this one insists
});
const refusals = [];
let closed = false;
c.on("disconnect", (p) => report("goodbye", p.reasonCode));
c.on("error", (error) => {
  refusals.push(error.code);
  if (refusals.length < 3) return;
  report("refused", refusals);
  process.exit(0);
});
await event(c, "connect");
await new Promise((yes) => c.subscribe("iot-2/cmd/+/fmt/+", { qos: 1 }, yes));
c.on("close", () => {
  if (!closed) report("closed");
  closed = true;
});
c.on("connect", () => report("connected again"));
report("connected");

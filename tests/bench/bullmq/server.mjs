// What accepting jobs is measured against: BullMQ's `queue.add` behind Fastify, in one Node process
// with the defaults of both. Started as `node server.mjs PORT REDIS_PORT`.

import { Queue } from "bullmq";
import Fastify from "fastify";

const [port, redisPort] = process.argv.slice(2).map(Number);

const queue = new Queue("jobs", { connection: { host: "127.0.0.1", port: redisPort } });
const server = Fastify();

server.post("/v1/jobs", async (request, reply) => {
  const job = await queue.add(request.body.task, request.body);
  return reply.code(202).send({ id: job.id, status: "queued" });
});

server.get("/health/ready", async () => ({ status: "ready" }));

await queue.waitUntilReady();
await server.listen({ host: "127.0.0.1", port });

// A client on Node's http2 that reuses connections as RFC 9113, 9.1.1 allows: for any name that the
// server's certificate covers, as both names have the same address. After 421 it asks again on a
// connection of the name's own.
//
// node client.mjs PORT CA-FILE NAME...: gets the script from each name in turn and prints one JSON
// line, a list of [connection, name, status].
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';
import { checkServerIdentity } from 'node:tls';

const [port, caFile, ...names] = process.argv.slice(2);
const ca = readFileSync(caFile);
const lookup = (_host, options, done) =>
  options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4);
const connections = [];
const answers = [];

function open(name) {
  return new Promise((resolve, reject) => {
    const connection = http2.connect(`https://${name}:${port}`, { ca, lookup });
    connection.once('error', reject);
    connection.once('connect', () => {
      connections.push(connection);
      resolve(connection);
    });
  });
}

function covers(connection, name) {
  return checkServerIdentity(name, connection.socket.getPeerCertificate()) === undefined;
}

function request(connection, name) {
  return new Promise((resolve, reject) => {
    const stream = connection.request({ ':authority': `${name}:${port}`, ':path': '/script.js' });
    let status;
    stream.on('response', (headers) => { status = headers[':status']; });
    stream.on('error', reject);
    stream.on('end', () => {
      answers.push([connections.indexOf(connection), name, status]);
      resolve(status);
    });
    stream.resume();
  });
}

for (const name of names) {
  const reused = connections.find((connection) => covers(connection, name));
  const status = await request(reused ?? await open(name), name);
  if (status === 421 && reused) await request(await open(name), name);
}
for (const connection of connections) connection.close();
console.log(JSON.stringify(answers));

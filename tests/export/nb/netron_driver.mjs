// Opens an nb file with Netron's own Paddle reader, without a window, and prints what it saw as JSON.
// node netron_driver.mjs NETRON_FOLDER FILE.nb
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, file] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(path.join(folder, name)).href);
const { ModelFactory } = await load('paddle.js');
const { BinaryStream } = await load('base.js');

// Netron's view.Metadata needs its window code; types that are not listed are shown by their name alone.
const types = new Map(JSON.parse(fs.readFileSync(path.join(folder, 'paddle-metadata.json'), 'utf-8')).map((t) => [t.name, t]));
const metadata = {
    type: (name) => types.get(name) || { name, category: '' },
    attribute: () => null,
    input: () => null,
    output: () => null
};
const context = {
    identifier: path.basename(file),
    stream: new BinaryStream(new Uint8Array(fs.readFileSync(file))),
    tags: async () => new Map(),
    peek: async () => null,
    entries: new Map(),
    metadata: async () => metadata,
    require: (id) => load(`${id.replace('./', '')}.js`),
    set(type, value) {
        this.type = type;
        this.value = value;
        return type;
    }
};
const factory = new ModelFactory();
const type = await factory.match(context);
if (!type) {
    throw new Error('Netron does not know this file');
}
const model = await factory.open(context);
const graph = model.modules[0];
// An op that writes what it reads hangs on the op before it.
const nodes = graph.nodes.flatMap((node) => [node, ...node.chain]);
const tensors = new Map();
for (const node of nodes) {
    for (const argument of node.inputs) {
        for (const value of argument.value) {
            if (value.initializer) {
                const t = value.initializer;
                tensors.set(value.name, {
                    name: value.name.split('\n')[0], dtype: t.type.dataType,
                    shape: Array.from(t.type.shape.dimensions, Number), bytes: t.values ? t.values.length : 0
                });
            }
        }
    }
}
console.log(JSON.stringify({
    type, format: model.format, graphs: model.modules.length,
    ops: nodes.map((node) => node.type.name),
    inputs: graph.inputs.length, outputs: graph.outputs.length,
    attributes: nodes.reduce((n, node) => n + node.attributes.length, 0),
    parameters: Array.from(tensors.values())
}));

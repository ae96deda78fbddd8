// node compile_ksy.js FILE.ksy FOLDER: writes the Python module there. NODE_PATH says where the packages are.
const fs = require("fs");
const yaml = require("js-yaml");
const compiler = require("kaitai-struct-compiler");

const [source, folder] = process.argv.slice(2);
compiler
  .compile("python", yaml.load(fs.readFileSync(source, "utf8")), null, false)
  .then((files) => {
    for (const name in files) fs.writeFileSync(`${folder}/${name}`, files[name]);
  })
  .catch((error) => {
    console.error(String(error));
    process.exit(1);
  });

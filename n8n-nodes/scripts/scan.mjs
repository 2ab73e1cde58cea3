// What @n8n/scan-community-package does with a published package, done before publishing: the
// sources and the packed files, linted with inline exceptions switched off.
// usage: node scan.mjs WORKSPACE PACKAGE UNPACKED-TARBALL

import { pathToFileURL } from 'node:url';
import { join, resolve } from 'node:path';

const [workspace, source, unpacked] = process.argv.slice(2).map((path) => resolve(path));
const scanner = join(workspace, 'node_modules/@n8n/scan-community-package/scanner/scanner.mjs');
const { analyzePackage, SOURCE_FILE_PATTERNS } = await import(pathToFileURL(scanner));

let failed = false;
for (const [what, folder, patterns] of [
	['source', source, SOURCE_FILE_PATTERNS],
	['tarball', unpacked, ['package.json', '**/*.js']],
]) {
	const { passed, message, details } = await analyzePackage(folder, patterns);
	// "No files found" passes with the scanner; here it is a mistake in the paths.
	const sound = passed && message === undefined;
	console.log(`n8n's scan of the ${what}: ${sound ? 'passed' : `${message}\n${details ?? ''}`}`);
	failed ||= !sound;
}
process.exit(failed ? 1 : 0);

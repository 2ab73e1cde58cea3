// From a task's input schema to the editor's form fields, and back to an input.

import type { FieldType, IDataObject, ResourceMapperField } from 'n8n-workflow';

/** The part of JSON Schema that decides about a form field. */
export interface Schema {
	type?: string | string[];
	enum?: unknown[];
	format?: string;
	description?: string;
	default?: unknown;
	required?: string[];
	properties?: Record<string, Schema>;
	anyOf?: Schema[];
	oneOf?: Schema[];
}

function typesOf(schema: Schema): string[] {
	if (schema.type !== undefined) return ([] as string[]).concat(schema.type);
	const choices = [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])];
	return [...new Set(choices.flatMap(typesOf))];
}

function fieldType(schema: Schema): FieldType {
	const types = typesOf(schema).filter((type) => type !== 'null');
	if (schema.enum?.length) return 'options';
	// A text fits most: a list or an object is then written as JSON.
	if (types.includes('string') || types.length === 0) {
		return types.length === 1 && schema.format === 'date-time' ? 'dateTime' : 'string';
	}
	if (types.includes('number') || types.includes('integer')) return 'number';
	if (types.includes('boolean')) return 'boolean';
	return types.includes('array') ? 'array' : 'object';
}

function scalar(value: unknown): string | number | boolean | undefined {
	return ['string', 'number', 'boolean'].includes(typeof value)
		? (value as string | number | boolean)
		: undefined;
}

export function fieldsOf(schema: Schema | null | undefined): ResourceMapperField[] {
	const required = new Set(schema?.required ?? []);
	return Object.entries(schema?.properties ?? {}).map(([id, property]) => ({
		id,
		displayName: id,
		required: required.has(id),
		defaultMatch: false,
		canBeUsedToMatch: false,
		display: true,
		type: fieldType(property),
		...(property.enum?.length && {
			options: property.enum
				.filter((value) => scalar(value) !== undefined)
				.map((value) => ({ name: String(value), value: value as string })),
		}),
		...(scalar(property.default) !== undefined && { defaultValue: scalar(property.default) }),
	}));
}

/** Text that is JSON of a kind the schema takes beside text. */
function parsed(text: string, types: string[]): unknown {
	const opening = text.trimStart().charAt(0);
	const wanted = opening === '[' ? 'array' : opening === '{' ? 'object' : undefined;
	if (wanted === undefined || !types.includes(wanted)) return text;
	try {
		return JSON.parse(text);
	} catch {
		return text;
	}
}

/** The fields' values as the task wants them; what is empty and not required is left out. */
export function inputOf(schema: Schema | null | undefined, values: IDataObject): IDataObject {
	const required = new Set(schema?.required ?? []);
	const input: IDataObject = {};
	for (const [id, property] of Object.entries(schema?.properties ?? {})) {
		const value = values[id];
		const empty = value === undefined || value === null || value === '';
		if (empty && !required.has(id)) continue;
		if (value === undefined) continue;
		input[id] =
			typeof value === 'string' ? (parsed(value, typesOf(property)) as IDataObject) : value;
	}
	return input;
}

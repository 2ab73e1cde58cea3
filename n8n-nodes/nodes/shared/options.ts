// What the editor's lists are filled with.

import type {
	IDataObject,
	ILoadOptionsFunctions,
	INodePropertyOptions,
	ResourceMapperFields,
} from 'n8n-workflow';

import { call, type Caller } from './api';
import { fieldsOf, noticeOf, type Schema } from './schema';

export interface Task {
	name: string;
	description: string | null;
	lane: string;
	routes: Record<string, string>;
	input_schema: Schema | null;
}

export async function tasks(caller: Caller): Promise<Task[]> {
	const { body } = await call(caller, { path: '/v1/tasks' });
	return (body.data ?? []) as unknown as Task[];
}

export async function getTasks(this: ILoadOptionsFunctions): Promise<INodePropertyOptions[]> {
	return (await tasks(this)).map(({ name, description, lane, routes }) => ({
		name,
		value: name,
		description: [description, `Route: ${routes[lane] ?? lane}.`].filter(Boolean).join(' '),
	}));
}

/** Providers and accounts of all routes: a preference may name either. */
export async function getProviders(this: ILoadOptionsFunctions): Promise<INodePropertyOptions[]> {
	const { body } = await call(this, { path: '/v1/routes' });
	const found = new Map<string, INodePropertyOptions>();
	for (const route of (body.data ?? []) as IDataObject[]) {
		for (const step of (route.steps ?? []) as IDataObject[]) {
			const provider = String(step.provider);
			const account = String(step.account);
			found.set(provider, { name: provider, value: provider, description: 'Provider' });
			if (!found.has(account)) {
				found.set(account, { name: account, value: account, description: `Account at ${provider}` });
			}
		}
	}
	return [...found.values()].sort((a, b) => a.name.localeCompare(b.name));
}

export async function getInputFields(this: ILoadOptionsFunctions): Promise<ResourceMapperFields> {
	const chosen = this.getNodeParameter('task', '') as string;
	if (chosen === '') {
		return { fields: [], emptyFieldsNotice: 'Choose a task first.' };
	}
	const task = (await tasks(this)).find(({ name }) => name === chosen);
	return {
		fields: fieldsOf(task?.input_schema),
		emptyFieldsNotice: task
			? noticeOf(task.input_schema)
			: `Spillway has no task "${chosen}".`,
	};
}

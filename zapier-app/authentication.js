import { whoAmI } from "./lib/api.js";

export default {
  type: "custom",
  fields: [
    {
      key: "baseUrl",
      label: "Spillway URL",
      type: "string",
      required: true,
      placeholder: "https://spillway.example.com",
      helpText: "The address of your Spillway. Zapier must be able to reach it from the internet, by https.",
    },
    {
      key: "apiKey",
      label: "API Key",
      type: "password",
      required: true,
      helpText: "It begins with `sw_`. Make one for Zapier with `spillway keys create zapier`.",
    },
  ],
  test: whoAmI,
  // Of what the test answers.
  connectionLabel: "{{caller}} at {{host}}",
};

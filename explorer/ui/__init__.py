"""The Gradio app: the only floor that imports gradio or plotly."""

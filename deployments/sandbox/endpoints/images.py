"""Images: `/v2/images`."""

from __future__ import annotations

from deployments.sandbox.account import Deletion, Image
from deployments.sandbox.bodies import image_body
from deployments.sandbox.endpoints.call import Call, find
from deployments.sandbox.errors import forbidden, unprocessable
from deployments.sandbox.responses import NO_CONTENT, ResponseBody, json_response
from deployments.sandbox.rules import why_not_delete


def list_images(call: Call) -> ResponseBody:
    """`GET /v2/images`."""
    kind = call.one_of("type", ("application", "distribution"))
    private = call.one_of("private", ("true", "false")) == "true"
    images = list(call.account.images.values())
    if kind:
        images = [image for image in images if image.public and image.application == (kind == "application")]
    if private:
        images = [image for image in images if not image.public]
    if "tag_name" in call.query:
        images = [image for image in images if call.query["tag_name"] in image.tags]
    return call.listing("images", images, lambda image: image_body(image, call.now))


def get_image(call: Call) -> ResponseBody:
    """`GET /v2/images/{image_id}`, or `/v2/images/{slug}` for a public image."""
    name = call.params["image_id"]
    by_slug = (image for image in call.account.images.values() if image.public and image.slug == name)
    image = next(by_slug, None) or image_named(call)
    return json_response(200, {"image": image_body(image, call.now)})


def update_image(call: Call) -> ResponseBody:
    """`PUT /v2/images/{image_id}`."""
    image = own_image_named(call)
    changes = {name: call.body_field(name) for name in ("name", "distribution", "description")}
    for name, value in changes.items():
        if value is not None and not isinstance(value, str):
            raise unprocessable(f"{name} must be a string.")
    if changes["name"] == "":
        raise unprocessable("Name can't be blank.")
    editable = ("name", "distribution", "description") if image.type == "custom" else ("name",)
    for name in editable:
        if changes[name] is not None:
            setattr(image, name, changes[name])
    return json_response(200, {"image": image_body(image, call.now)})


def delete_image(call: Call) -> ResponseBody:
    """`DELETE /v2/images/{image_id}`."""
    return remove_image(call, own_image_named(call))


def remove_image(call: Call, image: Image) -> ResponseBody:
    """Delete an image, if it may be deleted."""
    if reason := why_not_delete(image, call.now):
        raise unprocessable(reason)
    call.account.deleted.append(Deletion.of(image, call.now))
    call.account.delete_image(image)
    return NO_CONTENT


def image_named(call: Call) -> Image:
    """The image in the path."""
    return find(call.account.images, call.params["image_id"])


def own_image_named(call: Call) -> Image:
    """The image in the path, if it may be changed."""
    image = image_named(call)
    if image.public:
        raise forbidden()
    return image
